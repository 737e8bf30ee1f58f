import functools
import logging
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from allencv.runtime.classifier import compare
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.errors import BundleError
from allencv.runtime.installing import pip_install
from allencv.runtime.manifest import TOLERANCES, Manifest

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

Engine = Callable[[np.ndarray], np.ndarray]
"""Maps images `(batch, height, width, channels)` to probabilities; several threads may call it."""

MEASURED_SECONDS = 1.0
"""How long `fastest` measures each engine."""
PROBES = 32
"""The number of images for comparing engines."""
SAME = 1e-5
"""A smaller difference between probabilities means the same precision."""


def onnxruntime_engine(file: Path, threads: int) -> Engine:
    """
    Run an ONNX file with onnxruntime, on the CPU.

    Idle threads sleep. By default they spin, which doubles the CPU time for each request of a
    server.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # The fallback would print to stdout and try the same again.
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # onnxruntime has many classes of errors
        raise BundleError(f"{file}: onnxruntime cannot load it: {_line(error)}") from error
    inputs = [value.name for value in session.get_inputs()]
    if len(inputs) != 1:
        raise BundleError(f"{file}: takes {len(inputs)} inputs {inputs}; expected one, the image")
    return lambda images: session.run(None, {inputs[0]: images})[0]


def openvino_engine(file: Path, threads: int, reduced: bool = False) -> Engine:
    """
    Run an ONNX file with OpenVINO, on the CPU: in the precision of the network, or with `reduced`
    in the fastest one on this machine (bfloat16 if the processor supports it).
    """
    core = _openvino_core()
    # A stream handles one call at a time: as many streams as there are cores for.
    streams = max(1, cpu_count() // threads)
    config: Dict[str, Union[str, int]] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": streams * threads,
        "NUM_STREAMS": streams,
    }
    if not reduced:
        config["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        network = core.compile_model(str(file), "CPU", config)
    except Exception as error:  # as above
        raise BundleError(f"{file}: OpenVINO cannot load it: {_line(error)}") from error
    # Each thread needs its own request.
    requests = threading.local()

    def run(images: np.ndarray) -> np.ndarray:
        if not hasattr(requests, "own"):
            requests.own = network.create_infer_request()
        # The next call overwrites the result in the request's memory.
        return requests.own.infer([images])[0].copy()

    return run


@functools.cache
def _openvino_core() -> "openvino.Core":
    """
    Return the process's only core, which is never freed. Each core installs a signal stack for the
    thread that creates it. With two cores, freeing both leaves a freed stack installed, and the
    next handled signal ends the process (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


ENGINES: Dict[str, Callable[[Path, int], Engine]] = {
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
    "openvino-reduced": lambda file, threads: openvino_engine(file, threads, reduced=True),
}
"""What opens each engine of `ENGINE_NAMES`, with a file and a number of threads."""


def is_installed(engine: str) -> bool:
    return find_spec(engine.removesuffix("-reduced")) is not None


def open_engine(name: str, file: Path, manifest: Manifest, threads: int) -> Engine:
    """
    Load a network with the engine `name`, and try it on a black image.

    # Raises

    `BundleError` if the engine is not installed, or if the network cannot be loaded or does not
    match the manifest.
    """
    if not is_installed(name):
        package = name.removesuffix("-reduced")
        raise BundleError(f"the engine {name} is not installed: {pip_install(package)}")
    engine = ENGINES[name](file, threads)
    # Grey, as a network may divide by the sum of an image, which is 0 where all is black.
    image = manifest.preprocessing(np.full((1, 1, 3), 128, np.uint8))
    try:
        given = np.asarray(engine(image[None]))
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


def fastest(file: Path, manifest: Manifest, threads: int) -> Tuple[str, Engine]:
    """
    Return the name and the fastest of the installed engines. Measure each for a second, and log the
    choice with its reason. Skip an engine whose probabilities differ from those of the first,
    onnxruntime, by more than the tolerance of the bundle's export.

    # Raises

    `BundleError` if no engine is installed, or the network cannot be loaded.
    """
    installed = [name for name in ENGINES if is_installed(name)]
    if not installed:
        raise BundleError(f"{file}: no engine to run it with: {pip_install('onnxruntime')}")
    if len(installed) == 1:
        logger.info("The engine is %s: no other is installed", installed[0])
        return installed[0], open_engine(installed[0], file, manifest, threads)
    images = probe_images(manifest)
    expected: Optional[np.ndarray] = None
    speeds: Dict[str, float] = {}
    engines: Dict[str, Engine] = {}
    report: List[str] = []
    for name in installed:
        engine = open_engine(name, file, manifest, threads)
        given = np.concatenate([engine(images[i : i + 8]) for i in range(0, PROBES, 8)])
        expected = given if expected is None else expected
        objection = _objection(expected, given, manifest)
        if objection:
            report.append(f"{name} is skipped ({objection})")
            continue
        engines[name], speeds[name] = engine, _images_per_second(engine, images[:1])
        report.append(f"{name} does {speeds[name]:.0f} images/s")
    best = max(speeds, key=lambda name: speeds[name])
    logger.info("The engine is %s (threads: %d): %s", best, threads, ", ".join(report))
    return best, engines[best]


def probe_images(manifest: Manifest) -> np.ndarray:
    """Return images for comparing engines: noise, from fine to coarse."""
    random = np.random.default_rng(0)
    shapes = [(2 ** (index % 8 + 1),) * 2 for index in range(PROBES)]
    noise = [random.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    return np.stack([manifest.preprocessing(image) for image in noise])


def _objection(expected: np.ndarray, given: np.ndarray, manifest: Manifest) -> str:
    """Return what is wrong with the probabilities of an engine, or ""."""
    if np.array_equal(expected, given):
        return ""
    least_agreement, tolerance = TOLERANCES[manifest.precision]
    if manifest.parity is not None:
        least_agreement = manifest.parity.least_agreement
        tolerance = manifest.parity.tolerance
    agreement, difference = compare(expected, given, manifest.thresholds)
    if not (agreement >= least_agreement and difference <= tolerance):
        return f"probabilities differ by {difference:.1g}, labels by {1 - agreement:.0%}"
    undecided = ((expected > 0.05) & (expected < 0.95)).any(axis=1)
    # Probabilities near 0 or 1 hide errors of the computation.
    if difference > SAME and undecided.mean() < 0.5:
        return "its differences cannot be seen on images of noise"
    return ""


def _images_per_second(engine: Engine, images: np.ndarray) -> float:
    engine(images)
    rounds, start = 0, time.perf_counter()
    while (seconds := time.perf_counter() - start) < MEASURED_SECONDS:
        engine(images)
        rounds += 1
    return rounds * len(images) / seconds


def _line(error: Exception) -> str:
    """Return the last line, which has the reason of OpenVINO's and onnxruntime's errors."""
    return str(error).strip().rpartition("\n")[2][:300] or type(error).__name__
