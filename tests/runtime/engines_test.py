import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import List

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from allencv.runtime import open_bundle
from allencv.runtime.engines import (
    ENGINES,
    PROBES,
    _objection,
    fastest,
    onnxruntime_engine,
    openvino_engine,
    probe_images,
)
from allencv.runtime.manifest import Parity
from tests.runtime.tiny_bundle import SCALE, SIZE, write_bundle

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")


def said_by_fastest(bundle: Path, caplog: pytest.LogCaptureFixture) -> List[str]:
    """The name of the engine that was chosen, and what was logged."""
    caplog.clear()
    caplog.set_level(logging.INFO, "allencv.runtime")
    manifest = open_bundle(bundle)
    name, engine = fastest(bundle / "model.onnx", manifest, threads=1)
    images = probe_images(manifest)
    expected = onnxruntime_engine(bundle / "model.onnx", 1)(images)
    np.testing.assert_allclose(engine(images), expected, atol=1e-4)
    return [name, *(record.getMessage() for record in caplog.records)]


@needs_openvino
def test_the_fastest_is_measured(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.runtime.engines.MEASURED_SECONDS", 0.05)
    name, said = said_by_fastest(bundle, caplog)
    assert name in ENGINES
    assert said.startswith(f"The engine is {name} (threads: 1): onnxruntime does ")
    assert "images/s, openvino does " in said
    assert "openvino-reduced " in said


def test_nothing_is_sent_to_the_maker_of_onnxruntime(bundle: Path, tmp_path: Path) -> None:
    """It writes an identifier and what it is to send into the home folder, unless it is told."""
    program = f"""
from allencv.runtime import OnnxClassifier
OnnxClassifier({str(bundle)!r})
"""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert not list(tmp_path.iterdir())


@needs_openvino
def test_signals_are_handled_when_engines_come_and_go(bundle: Path) -> None:
    """OpenVINO gives the thread a stack for signals, and has left it one that was gone."""
    program = f"""
import os, signal
from pathlib import Path
from allencv.runtime.engines import openvino_engine
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first = openvino_engine(Path({str(bundle / "model.onnx")!r}), 1)
second = openvino_engine(Path({str(bundle / "model.onnx")!r}), 1, reduced=True)
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr


def test_an_engine_that_computes_something_else_is_passed_over(
    bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It runs another network: one whose logits are 2 % larger."""
    model = onnx.load(bundle / "model.onnx")
    (scale,) = (each for each in model.graph.initializer if each.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(1.02 * SCALE / 255, np.float32), "scale"))
    onnx.save(model, tmp_path / "other.onnx")
    monkeypatch.setattr("allencv.runtime.engines.MEASURED_SECONDS", 0.05)
    monkeypatch.setattr(
        "allencv.runtime.engines.ENGINES",
        {
            "onnxruntime": onnxruntime_engine,
            "onnxruntime-reduced": lambda _, n: onnxruntime_engine(tmp_path / "other.onnx", n),
        },
    )
    name, said = said_by_fastest(bundle, caplog)
    assert name == "onnxruntime"
    assert "onnxruntime-reduced is skipped (probabilities differ by 0.00" in said


def test_an_engine_that_is_alone_is_not_measured(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.runtime.engines.ENGINES", {"onnxruntime": onnxruntime_engine})
    name, said = said_by_fastest(bundle, caplog)
    assert name == "onnxruntime"
    assert said == "The engine is onnxruntime: no other is installed"


@needs_openvino
@pytest.mark.parametrize("threads", [1, 3])
def test_openvino_answers_several_threads_at_once(bundle: Path, threads: int) -> None:
    images = probe_images(open_bundle(bundle))
    expected = onnxruntime_engine(bundle / "model.onnx", 1)(images)
    engine = openvino_engine(bundle / "model.onnx", threads)
    with ThreadPoolExecutor(4) as pool:
        for given in pool.map(engine, [images] * 40):
            np.testing.assert_allclose(given, expected, atol=1e-6)


def test_an_engine_must_agree_on_what_shows_a_difference(bundle: Path) -> None:
    """The rule of "auto": within the bundle's tolerance, on images that are not decided anyway."""
    manifest = open_bundle(bundle)
    loose = replace(manifest, parity=Parity(1, 1.0, 0.0, 0.9, 0.1))
    undecided = np.tile(np.array([[0.6, 0.3, 0.1]], np.float32), (PROBES, 1))
    shifted = undecided + np.array([0.01, -0.01, 0], np.float32)
    assert _objection(undecided, undecided, manifest) == ""
    assert _objection(undecided, shifted, manifest) == "probabilities differ by 0.01, labels by 0%"
    assert _objection(undecided, shifted, loose) == ""
    assert "labels by 100%" in _objection(undecided, undecided[:, ::-1], loose)
    assert _objection(undecided, undecided * np.nan, loose)
    decided = np.tile(np.array([[0.999, 0.001, 0]], np.float32), (PROBES, 1))
    shifted = decided - np.array([0.0009, -0.0009, 0], np.float32)
    assert "cannot be seen" in _objection(decided, shifted, loose)


def test_probes_are_images_as_the_network_wants_them(bundle: Path) -> None:
    manifest = open_bundle(bundle)
    images = probe_images(manifest)
    assert (images.shape, images.dtype) == ((PROBES, SIZE, SIZE, 3), np.uint8)
    assert len({image.tobytes() for image in images}) == PROBES
    grey = replace(manifest, preprocessing=replace(manifest.preprocessing, color_mode="L"))
    assert probe_images(grey).shape == (PROBES, SIZE, SIZE, 1)
