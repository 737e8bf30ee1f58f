import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from allencv.runtime import open_bundle
from allencv.runtime.engine import VECTORS
from allencv.runtime.engine_choice import probe_images
from allencv.runtime.onnxruntime_engine import onnxruntime_engine
from allencv.runtime.openvino_engine import openvino_engine
from tests.runtime.tiny_bundle import write_bundle

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")


def test_signals_are_handled_when_engines_come_and_go(bundle: Path) -> None:
    """OpenVINO gives the thread a stack for signals, and has left it one that was gone."""
    program = f"""
import os, signal
from pathlib import Path
from allencv.runtime.openvino_engine import openvino_engine
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first = openvino_engine(Path({str(bundle / "model.onnx")!r}), 1)
second = openvino_engine(Path({str(bundle / "model.onnx")!r}), 1, reduced=True)
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


@pytest.mark.parametrize("threads", [1, 3])
def test_openvino_answers_several_threads_at_once(bundle: Path, threads: int) -> None:
    images = probe_images(open_bundle(bundle))
    expected = onnxruntime_engine(bundle / "model.onnx", 1)(images)[0]
    engine = openvino_engine(bundle / "model.onnx", threads)
    with ThreadPoolExecutor(4) as pool:
        for (given,) in pool.map(engine, [images] * 40):
            np.testing.assert_allclose(given, expected, atol=1e-6)


def test_one_image_at_a_time(bundle: Path) -> None:
    """As for an NPU, whose networks have one size of batch."""
    images = probe_images(open_bundle(bundle))[:5]
    engine = openvino_engine(bundle / "model.onnx", 1, one_by_one=True)
    expected = onnxruntime_engine(bundle / "model.onnx", 1)(images)[0]
    np.testing.assert_allclose(engine(images)[0], expected, atol=1e-6)
    np.testing.assert_allclose(engine(images, (VECTORS,))[0], images.mean(axis=(1, 2)), rtol=1e-5)
