import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from allencv.runtime import (
    BundleError,
    ImageError,
    Manifest,
    OnnxClassifier,
    judged,
    open_bundle,
    readable,
)
from allencv.runtime.bundle import MANIFEST, sha256_of
from allencv.runtime.certainty import Scaling
from allencv.runtime.certainty.files import FILES
from tests.conftest import ROOT, write_images
from tests.runtime.certainty.certainties import certainty, everything
from tests.runtime.tiny_bundle import (
    LABELS,
    SIZE,
    mean_of,
    sigmoid_of,
    softmax_of,
    write_bundle,
)

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="needs openvino")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("runtime") / "colours")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    root = write_images(tmp_path_factory.mktemp("images"), {"red": 2, "green": 2, "blue": 2})
    return sorted(root.rglob("*.jpg"))


def pixels_of(classifier: OnnxClassifier, files: List[Path]) -> np.ndarray:
    return np.stack([classifier.preprocess(file) for file in files])


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_are_those_worked_out_by_hand(
    bundle: Path, files: List[Path], engine: str
) -> None:
    classifier = OnnxClassifier(bundle, engine)
    assert (classifier.name, classifier.labels, classifier.engine) == ("colours", LABELS, engine)
    assert not classifier.multi_label
    assert classifier.thresholds is None
    expected = np.stack([softmax_of(file) for file in files])
    for count in (1, 2, len(files)):  # any number at once
        given = classifier.probabilities(pixels_of(classifier, files[:count]))
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected[:count], atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_vectors_are_the_second_output(bundle: Path, files: List[Path], engine: str) -> None:
    classifier = OnnxClassifier(bundle, engine)
    assert classifier.vector_size == 3
    given = classifier.vectors(pixels_of(classifier, files))
    np.testing.assert_allclose(given, np.stack([mean_of(file) for file in files]), rtol=1e-5)


def test_a_bundle_without_vectors_classifies_only(tmp_path: Path, files: List[Path]) -> None:
    """As those of older versions."""
    bundle = write_bundle(tmp_path / "old")
    model = onnx.load(bundle / "model.onnx")
    del model.graph.output[1:]
    with_network(bundle, model.SerializeToString())
    content = (bundle / MANIFEST).read_text()
    assert content.count('"vector_size": 3,') == 1
    classifier = OnnxClassifier(rewrite(bundle, vector_size=None))
    pixels = pixels_of(classifier, files)
    assert classifier.probabilities(pixels).shape == (len(files), 3)
    for ask in (lambda: classifier.vector_size, lambda: classifier.vectors(pixels)):
        with pytest.raises(BundleError) as raised:
            ask()
        assert str(raised.value) == (
            "bundle 'old' gives no vectors: it was exported by an older version of allencv; "
            "export it again"
        )


def test_a_model_of_several_labels(files: List[Path], tmp_path: Path) -> None:
    classifier = OnnxClassifier(write_bundle(tmp_path / "several", thresholds=[0.5, 0.25, 0.0]))
    assert classifier.multi_label
    assert classifier.thresholds == [0.5, 0.25, 0.0]
    given = classifier.probabilities(pixels_of(classifier, files[:1]))
    np.testing.assert_allclose(given[0], sigmoid_of(files[0]), atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_get_their_own_answers(bundle: Path, files: List[Path], engine: str) -> None:
    classifier = OnnxClassifier(bundle, engine, threads=2)
    pixels = pixels_of(classifier, files)
    expected = classifier.probabilities(pixels)

    def answer(number: int) -> bool:
        index = number % len(files)
        kept = classifier.probabilities(pixels[index : index + 1])
        classifier.probabilities(255 - pixels)
        return np.allclose(kept, expected[index : index + 1], atol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(answer, range(400)))


def test_an_unreadable_image_is_named(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("a text")
    with pytest.raises(ImageError, match=r"text.jpg: not an image"):
        OnnxClassifier(bundle).preprocess(tmp_path / "text.jpg")


def test_bad_arguments(bundle: Path) -> None:
    with pytest.raises(ValueError, match="engine is 'onnx'; expected one of auto, onnxruntime, op"):
        OnnxClassifier(bundle, "onnx")
    with pytest.raises(ValueError, match="threads is 0; expected at least 1"):
        OnnxClassifier(bundle, threads=0)


def rewrite(bundle: Path, **others: Any) -> Path:
    """The bundle with another manifest that fits its files."""
    manifest = replace(Manifest.from_bytes((bundle / MANIFEST).read_bytes()), **others)
    (bundle / MANIFEST).write_bytes(manifest.to_bytes())
    return bundle


def test_a_network_that_is_not_onnx(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    (bundle / "model.pt2").write_bytes(b"")
    files = {"model.pt2": sha256_of(bundle / "model.pt2")}
    rewrite(bundle, format="torch_export", files=files)
    with pytest.raises(
        BundleError, match=r"model.pt2: its format is torch_export, .*; expected onnx"
    ):
        OnnxClassifier(bundle)


def with_network(bundle: Path, data: bytes) -> Path:
    """The bundle with another network, and the checksum of that."""
    (bundle / "model.onnx").write_bytes(data)
    return rewrite(bundle, files={"model.onnx": sha256_of(bundle / "model.onnx")})


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("data", "message"),
    [(b"no network", "is not an ONNX file: "), (b"", ".* cannot load it: ")],
)
def test_a_file_that_is_no_network(tmp_path: Path, engine: str, data: bytes, message: str) -> None:
    bundle = with_network(write_bundle(tmp_path / "bundle"), data)
    with pytest.raises(BundleError, match=f"model.onnx: {message}") as raised:
        OnnxClassifier(bundle, engine)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("engine", ["onnxruntime", "auto"])
def test_weights_beside_the_network_are_refused(tmp_path: Path, engine: str) -> None:
    """They have no checksum: whoever changes them changes the answers."""
    bundle = write_bundle(tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    onnx.save(
        model,
        bundle / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert (bundle / "weights.bin").is_file()
    with_network(bundle, (bundle / "model.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"model.onnx: has weights in another file"):
        OnnxClassifier(bundle, engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "auto"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: graph.input.add().CopyFrom(graph.output[0]), "cannot load it|2 inputs"),
        (lambda graph: graph.node.pop(), "cannot load it"),
        (lambda graph: scale_by(graph, np.nan), "gives nan .float32.; expected finite float32"),
    ],
)
def test_a_network_that_gives_no_probabilities(
    tmp_path: Path, engine: str, change: Callable[[onnx.GraphProto], object], message: str
) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    change(model.graph)
    with_network(bundle, model.SerializeToString())
    with pytest.raises(BundleError, match=f"model.onnx: .*({message})") as raised:
        OnnxClassifier(bundle, engine)
    assert "\n" not in str(raised.value)


def test_a_network_that_fails_for_black_images_alone_is_opened(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    model = onnx.load(bundle / "model.onnx")
    model.graph.node.insert(2, onnx.helper.make_node("Div", ["mean", "mean"], ["ones"]))
    model.graph.node[3].input[0] = "ones"
    classifier = OnnxClassifier(with_network(bundle, model.SerializeToString()))
    black, grey = (np.full((1, SIZE, SIZE, 3), value, np.uint8) for value in (0, 128))
    assert np.isnan(classifier.probabilities(black)).all()
    assert np.isfinite(classifier.probabilities(grey)).all()


def scale_by(graph: onnx.GraphProto, factor: float) -> None:
    (scale,) = (each for each in graph.initializer if each.name == "scale")
    scale.CopyFrom(numpy_helper.from_array(np.array(factor, np.float32), "scale"))


def test_a_network_that_does_not_fit_the_manifest(tmp_path: Path) -> None:
    bundle = rewrite(write_bundle(tmp_path / "bundle"), labels=["red", "green"])
    with pytest.raises(BundleError, match=r"model.onnx: .*3 probabilities.* 2 labels"):
        OnnxClassifier(bundle)
    preprocessing = replace(open_bundle(bundle).preprocessing, height=SIZE + 1)
    rewrite(bundle, labels=LABELS, preprocessing=preprocessing)
    with pytest.raises(BundleError, match=r"model.onnx: does not take images of 17 x 16 x 3"):
        OnnxClassifier(bundle)


def test_probabilities_and_vectors_are_computed_at_once(bundle: Path, files: List[Path]) -> None:
    classifier = OnnxClassifier(bundle)
    assert classifier.certainty is None
    pixels = np.stack([classifier.preprocess(file) for file in files])
    calls: List[Any] = []
    run = classifier._run
    classifier._run = lambda *given: calls.append(given) or run(*given)
    probabilities, vectors = classifier.outputs(pixels)
    assert len(calls) == 1
    assert np.array_equal(probabilities, classifier.probabilities(pixels))
    assert np.array_equal(vectors, classifier.vectors(pixels))


def test_a_calibrated_bundle(tmp_path: Path, files: List[Path]) -> None:
    thresholds = [0.5, 0.9, 0.1]
    found = certainty(scaling=Scaling([2.0] * 3, [1.0] * 3))
    folder = write_bundle(tmp_path / "bundle", thresholds=thresholds, certainty=found)
    classifier = OnnxClassifier(folder)
    assert classifier.certainty is not None
    assert classifier.thresholds == classifier.certainty.calibrated_thresholds(thresholds)
    plain = OnnxClassifier(write_bundle(tmp_path / "plain", thresholds=thresholds))
    assert plain.checksum != classifier.checksum
    pixels = classifier.preprocess(files[0])[None]
    assert np.array_equal(classifier.probabilities(pixels), plain.probabilities(pixels))
    (answer,) = (readable(classifier, each) for each in judged(classifier, pixels))
    (other,) = (readable(plain, each) for each in judged(plain, pixels))
    assert answer["labels"] == other["labels"]
    assert answer["top_k"] != other["top_k"]


@pytest.mark.parametrize("name", FILES)
def test_a_changed_calibration_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "bundle", certainty=everything())
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{name}: it was changed after the export"):
        OnnxClassifier(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: it is missing"):
        OnnxClassifier(folder)


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", certainty=everything(labels=4))
    with pytest.raises(BundleError, match="label_counts' is 4; expected 3"):
        OnnxClassifier(folder)


def test_it_runs_without_torch_and_allennlp(bundle: Path, files: List[Path]) -> None:
    code = f"""
import sys
from allencv.runtime import OnnxClassifier, judged, readable
assert "onnxruntime" not in sys.modules  # before it is needed
classifier = OnnxClassifier({str(bundle)!r})
pixels = classifier.preprocess({str(files[0])!r})
print(readable(classifier, judged(classifier, pixels[None])[0])["label"])
assert not {{"torch", "allennlp", "onnx"}} & set(sys.modules)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == files[0].parent.name


def test_a_score_of_vectors_is_refused_if_the_network_gives_none(tmp_path: Path) -> None:
    folder = rewrite(
        write_bundle(tmp_path / "bundle", certainty=everything(kind="energy")), vector_size=None
    )
    with pytest.raises(BundleError, match="which needs vectors, and the network gives none"):
        OnnxClassifier(folder)
