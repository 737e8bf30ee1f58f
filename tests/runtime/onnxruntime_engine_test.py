import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from allencv.runtime import BundleError
from allencv.runtime.onnxruntime_engine import _providers, onnxruntime_engine
from tests.runtime.tiny_bundle import SIZE, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")


def test_nothing_is_sent_to_the_maker_of_onnxruntime(bundle: Path, tmp_path: Path) -> None:
    """It writes an identifier and what it is to send into the home folder, unless it is told."""
    program = f"""
from allencv.runtime import OnnxClassifier
OnnxClassifier({str(bundle)!r})
"""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:Specified provider")  # the next one that it names
def test_the_cpu_in_place_of_another_chip_is_an_error(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime only warns, and computes on the CPU."""
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    for provider, needs in (
        ("CUDAExecutionProvider", "an NVIDIA GPU"),
        ("TensorrtExecutionProvider", "TensorRT"),
        ("CoreMLExecutionProvider", "a Mac"),
    ):
        if provider in onnxruntime.get_available_providers():
            continue
        with (
            pytest.warns(UserWarning, match=provider),
            pytest.raises(BundleError, match=f"its {provider} .* use the CPU; expected .*{needs}"),
        ):
            onnxruntime_engine(bundle / "model.onnx", 1, provider)


def test_what_a_chip_cannot_compute_goes_to_the_next() -> None:
    (tensorrt, options), (cuda, others) = _providers("TensorrtExecutionProvider", "float16")
    assert (tensorrt, cuda) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert options == {"trt_fp16_enable": True}
    assert others == {"use_tf32": 0}
    assert _providers("CPUExecutionProvider", "int8") == [("CPUExecutionProvider", {})]


def test_threads_are_those_that_were_given(bundle: Path) -> None:
    images = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    one, two = (onnxruntime_engine(bundle / "model.onnx", threads)(images)[0] for threads in (1, 2))
    np.testing.assert_allclose(one, np.full((2, 3), 1 / 3), atol=1e-6)
    np.testing.assert_array_equal(one, two)
