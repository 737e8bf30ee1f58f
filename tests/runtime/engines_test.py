from pathlib import Path
from typing import Dict, List

import pytest

from allencv.runtime import BundleError, open_bundle
from allencv.runtime.defaults import CPU_ENGINES, ENGINE_NAMES
from allencv.runtime.engines import ENGINES, available_engines, open_engine, why_unavailable
from tests.runtime.tiny_bundle import write_bundle

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, COREML = "TensorrtExecutionProvider", "CoreMLExecutionProvider"


def with_chips(monkeypatch: pytest.MonkeyPatch, **chips: List[str]) -> None:
    """Let the libraries find `chips`; a library that is not named is not installed."""
    monkeypatch.setattr("allencv.runtime.engines.chips_of", lambda library: chips.get(library, []))


def test_every_name_of_the_commands_is_an_engine() -> None:
    assert tuple(ENGINES) == ENGINE_NAMES
    assert {name for name, kind in ENGINES.items() if kind.chip in ("CPU", CPU)} == {*CPU_ENGINES}


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        ({}, []),
        ({"onnxruntime": [CPU]}, ["onnxruntime"]),
        ({"onnxruntime": ["AzureExecutionProvider", CPU]}, ["onnxruntime"]),
        ({"onnxruntime": [TENSORRT, CUDA, CPU]}, ["onnxruntime", "cuda", "tensorrt"]),
        ({"onnxruntime": [COREML, CPU]}, ["onnxruntime", "coreml"]),
        ({"openvino": ["CPU"]}, ["openvino", "openvino-reduced"]),
        (
            {"onnxruntime": [CPU], "openvino": ["CPU", "GPU", "NPU"]},
            ["onnxruntime", "openvino", "openvino-reduced", "openvino-gpu", "openvino-npu"],
        ),
    ],
)
def test_engines_are_those_of_the_libraries_chips(
    monkeypatch: pytest.MonkeyPatch, chips: Dict[str, List[str]], expected: List[str]
) -> None:
    with_chips(monkeypatch, **chips)
    assert available_engines() == expected
    assert [name for name in ENGINES if not why_unavailable(name)] == expected


def test_the_chips_are_those_that_onnxruntime_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [COREML, CPU])
    assert "coreml" in available_engines()
    assert "cuda" not in available_engines()


def test_the_gpus_that_openvino_counts_are_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        available_devices = ("CPU", "GPU.0", "GPU.1")

    monkeypatch.setattr("allencv.runtime.engines.openvino_core", Core)
    monkeypatch.setattr("allencv.runtime.engines.find_spec", lambda library: library)
    assert "openvino-gpu" in available_engines()
    assert "openvino-npu" not in available_engines()


GPU_PACKAGE = 'pip uninstall onnxruntime, then pip install "onnxruntime-gpu[cuda,cudnn]>=1.22"'


@pytest.mark.parametrize(
    ("name", "chips", "message"),
    [
        ("onnxruntime", {}, 'is not installed: pip install "onnxruntime>=1.22"'),
        ("openvino-npu", {}, 'is not installed: pip install "openvino>=2026.1"'),
        (
            "openvino-gpu",
            {"openvino": ["CPU", "NPU"]},
            "needs GPU, but the installed openvino has CPU, NPU: install Intel's driver for the "
            "GPU of this machine",
        ),
        (
            "cuda",
            {"onnxruntime": ["AzureExecutionProvider", CPU]},
            f"needs {CUDA}, but the installed onnxruntime has AzureExecutionProvider, {CPU}: "
            f"{GPU_PACKAGE}",
        ),
        ("tensorrt", {}, f"needs {TENSORRT}, but the installed onnxruntime has no"),
        (
            "coreml",
            {"onnxruntime": [CPU]},
            f"needs {COREML}, but the installed onnxruntime has {CPU}: only the onnxruntime for "
            'macOS has it: pip install "onnxruntime>=1.22" on a Mac',
        ),
    ],
)
def test_the_message_says_what_to_install(
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    chips: Dict[str, List[str]],
    message: str,
) -> None:
    with_chips(monkeypatch, **chips)
    with pytest.raises(BundleError) as error:
        open_engine(name, bundle / "model.onnx", open_bundle(bundle), threads=1)
    assert str(error.value).startswith(f"the engine {name} {message}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")
