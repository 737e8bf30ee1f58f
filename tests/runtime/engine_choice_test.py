import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import List

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from allencv.runtime import BundleError, open_bundle
from allencv.runtime.engine_choice import PROBES, _objection, chosen, fastest, probe_images
from allencv.runtime.engines import ENGINES, EngineKind
from allencv.runtime.manifest import Parity
from allencv.runtime.onnxruntime_engine import onnxruntime_engine
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
    expected = onnxruntime_engine(bundle / "model.onnx", 1)(images)[0]
    np.testing.assert_allclose(engine(images)[0], expected, atol=1e-4)
    return [name, *(record.getMessage() for record in caplog.records)]


@needs_openvino
def test_the_fastest_is_measured(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.runtime.engine_choice.MEASURED_SECONDS", 0.05)
    name, said = said_by_fastest(bundle, caplog)
    assert name in ENGINES
    assert said.startswith(f"The engine is {name} (threads: 1): onnxruntime does ")
    assert "images/s, openvino does " in said
    assert "openvino-reduced " in said


@pytest.fixture
def other(bundle: Path, tmp_path: Path) -> Path:
    """Another network: one whose logits are 2 % larger."""
    return scaled(bundle, tmp_path / "other.onnx", 1.02)


def scaled(bundle: Path, file: Path, factor: float) -> Path:
    model = onnx.load(bundle / "model.onnx")
    (scale,) = (each for each in model.graph.initializer if each.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(factor * SCALE / 255, np.float32), "scale"))
    onnx.save(model, file)
    return file


def that_runs(file: Path) -> EngineKind:
    """An engine of onnxruntime's CPU that runs another file."""
    return EngineKind(
        "onnxruntime",
        "CPUExecutionProvider",
        lambda _, threads, precision: onnxruntime_engine(file, threads),
    )


@pytest.mark.parametrize("name", ["openvino-reduced", "cuda"])
def test_an_engine_that_computes_something_else_is_passed_over(
    bundle: Path,
    other: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr("allencv.runtime.engine_choice.MEASURED_SECONDS", 0.05)
    engines = {"onnxruntime": ENGINES["onnxruntime"], name: that_runs(other)}
    monkeypatch.setattr("allencv.runtime.engines.ENGINES", engines)
    taken, said = said_by_fastest(bundle, caplog)
    assert taken == "onnxruntime"
    assert f"{name} is skipped (probabilities differ by 0.00" in said


def test_an_engine_that_cannot_be_opened_is_passed_over(
    bundle: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As CUDA's, where the library for it is installed but no GPU is there."""
    monkeypatch.setattr("allencv.runtime.engine_choice.MEASURED_SECONDS", 0.05)
    engines = {
        "onnxruntime": ENGINES["onnxruntime"],
        "openvino": that_runs(bundle / "model.onnx"),
        "cuda": that_runs(tmp_path / "missing.onnx"),
    }
    monkeypatch.setattr("allencv.runtime.engines.ENGINES", engines)
    taken, said = said_by_fastest(bundle, caplog)
    assert taken in ("onnxruntime", "openvino")
    assert "openvino does " in said
    assert "cuda is skipped (" in said
    assert "missing.onnx: onnxruntime cannot load it: " in said


def test_a_chosen_chip_may_compute_in_half_precision(
    bundle: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are 2 % larger change a probability by less than 0.02; 30 % larger, by more."""
    manifest, file = open_bundle(bundle), bundle / "model.onnx"
    images = probe_images(manifest)
    expected = onnxruntime_engine(file, 1)(images)[0]
    farther = scaled(bundle, tmp_path / "farther.onnx", 1.3)
    assert 1e-4 < np.abs(onnxruntime_engine(other, 1)(images)[0] - expected).max() < 0.02
    assert np.abs(onnxruntime_engine(farther, 1)(images)[0] - expected).max() > 0.02
    monkeypatch.setitem(ENGINES, "cuda", that_runs(other))
    given = chosen("cuda", file, manifest, threads=1)(images)[0]
    np.testing.assert_array_equal(given, onnxruntime_engine(other, 1)(images)[0])
    monkeypatch.setitem(ENGINES, "cuda", that_runs(farther))
    with pytest.raises(BundleError, match=r"the engine cuda computes something else .*differ by 0"):
        chosen("cuda", file, manifest, threads=1)
    # Those of the CPU may be chosen for a precision that the bundle does not have.
    monkeypatch.setitem(ENGINES, "openvino-reduced", that_runs(farther))
    chosen("openvino-reduced", file, manifest, threads=1)


def test_a_chosen_chip_without_an_answer_is_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_for_several(images: np.ndarray) -> List[np.ndarray]:
        if len(images) > 1:
            raise RuntimeError("first line\nout of memory")
        return [np.full((1, 3), 1 / 3, np.float32)]

    kind = EngineKind("onnxruntime", "CPUExecutionProvider", lambda *_: fail_for_several)
    monkeypatch.setitem(ENGINES, "tensorrt", kind)
    manifest = open_bundle(bundle)
    with pytest.raises(BundleError, match="^the engine tensorrt fails for 8 images: out of "):
        chosen("tensorrt", bundle / "model.onnx", manifest, threads=1)


def test_an_engine_that_is_alone_is_not_measured(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = {"onnxruntime": ENGINES["onnxruntime"]}
    monkeypatch.setattr("allencv.runtime.engines.ENGINES", engines)
    name, said = said_by_fastest(bundle, caplog)
    assert name == "onnxruntime"
    assert said == "The engine is onnxruntime: no other is installed"


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
