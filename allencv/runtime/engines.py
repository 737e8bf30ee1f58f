"""The engines that run the network of a bundle, each on one kind of chip."""

from importlib.util import find_spec
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import numpy as np

from allencv.runtime.defaults import CUDA_ENGINES
from allencv.runtime.engine import PROBABILITIES, Engine
from allencv.runtime.errors import BundleError
from allencv.runtime.installing import pip_install
from allencv.runtime.manifest import Manifest
from allencv.runtime.onnxruntime_engine import CPU_PROVIDER, onnxruntime_engine
from allencv.runtime.openvino_engine import openvino_core, openvino_engine


class EngineKind(NamedTuple):
    """
    What an engine needs, and how it is opened.

    # Parameters

    library : the module that runs the network: "onnxruntime" or "openvino".
    chip : the name of a provider of onnxruntime, or of a device of OpenVINO.
    open : opens a file with a number of threads for a precision of the manifest.
    """

    library: str
    chip: str
    open: Callable[[Path, int, str], Engine]


def _of_onnxruntime(provider: str) -> EngineKind:
    return EngineKind(
        "onnxruntime",
        provider,
        lambda file, threads, precision: onnxruntime_engine(file, threads, provider, precision),
    )


def _of_openvino(device: str, reduced: bool = False) -> EngineKind:
    return EngineKind(
        "openvino",
        device,
        lambda file, threads, _: openvino_engine(file, threads, device, reduced, device == "NPU"),
    )


ENGINES: Dict[str, EngineKind] = {
    "onnxruntime": _of_onnxruntime(CPU_PROVIDER),
    "openvino": _of_openvino("CPU"),
    "openvino-reduced": _of_openvino("CPU", reduced=True),
    "openvino-gpu": _of_openvino("GPU"),
    "openvino-npu": _of_openvino("NPU"),
    "cuda": _of_onnxruntime("CUDAExecutionProvider"),
    "tensorrt": _of_onnxruntime("TensorrtExecutionProvider"),
    "coreml": _of_onnxruntime("CoreMLExecutionProvider"),
}
"""The engines of `ENGINE_NAMES`."""


def chips_of(library: str) -> List[str]:
    """Return the chips that a library can use on this machine; none if it is not installed."""
    if find_spec(library) is None:
        return []
    if library == "openvino":
        # With several GPUs, OpenVINO lists GPU.0, GPU.1, ...
        return [name.partition(".")[0] for name in openvino_core().available_devices]
    import onnxruntime

    return onnxruntime.get_available_providers()


def available_engines() -> List[str]:
    """Return the names of the engines that this machine's libraries offer."""
    chips = {library: chips_of(library) for library in {kind.library for kind in ENGINES.values()}}
    return [name for name, kind in ENGINES.items() if kind.chip in chips[kind.library]]


def why_unavailable(name: str) -> str:
    """Return why the engine `name` cannot be used and how to install it, or "" if it can."""
    library, chip, _ = ENGINES[name]
    chips = chips_of(library)
    if chip in chips:
        return ""
    if name in CUDA_ENGINES:
        how = f"pip uninstall onnxruntime, then {pip_install('onnxruntime_gpu')}"
    elif not chips:
        return f"the engine {name} is not installed: {pip_install(library)}"
    elif library == "openvino":
        how = f"install Intel's driver for the {chip} of this machine"
    else:
        how = f"only the onnxruntime for macOS has it: {pip_install(library)} on a Mac"
    return (
        f"the engine {name} needs {chip}, but the installed {library} has "
        f"{', '.join(chips) or 'nothing'}: {how}"
    )


def open_engine(name: str, file: Path, manifest: Manifest, threads: int) -> Engine:
    """
    Load a network with the engine `name`, and try it on a grey image.

    # Raises

    `BundleError` if the engine cannot be used here, or if the network cannot be loaded or does not
    match the manifest.
    """
    if reason := why_unavailable(name):
        raise BundleError(reason)
    engine = ENGINES[name].open(file, threads, manifest.precision)
    # Grey, as a network may divide by the sum of an image, which is 0 where all is black.
    image = manifest.preprocessing(np.full((1, 1, 3), 128, np.uint8))
    try:
        given = np.asarray(engine(image[None])[PROBABILITIES])
    except Exception as error:  # each engine has its own classes of errors
        size = " x ".join(map(str, image.shape))
        raise BundleError(f"{file}: does not take images of {size}, uint8") from error
    labels = len(manifest.labels)
    if given.shape != (1, labels):
        raise BundleError(
            f"{file}: gives {given.size} probabilities for an image, but the manifest has {labels} "
            "labels"
        )
    if given.dtype != np.float32 or not np.isfinite(given).all():
        raise BundleError(
            f"{file}: gives {given.ravel()[0]} ({given.dtype}); expected finite float32"
        )
    return engine
