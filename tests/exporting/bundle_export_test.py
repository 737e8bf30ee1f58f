import json
import os
import shutil
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import onnx
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.exporting import TorchClassifier, export_bundle
from allencv.predictors import ImageClassifierPredictor
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import BundleError, OnnxClassifier, Preprocessing, open_bundle, readable
from allencv.runtime.certainty import Judgement
from tests.models.multilabel_data import LABELS, multilabel_experiment, write_tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive_file(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copy(trained_run / "model.tar.gz", tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def bundle(archive_file: Path) -> Path:
    export_bundle(load_archive(archive_file), archive_file.parent / "bundle")
    return archive_file.parent / "bundle"


@pytest.fixture
def exported_before(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the network of `bundle` for that of the archive: to export it takes long."""
    module = sys.modules["allencv.exporting.bundle_export"]
    monkeypatch.setattr(module, "exported", lambda network, preprocessing: None)
    monkeypatch.setattr(
        module, "write_onnx", lambda program, file: shutil.copy(bundle / "model.onnx", file)
    )


@pytest.fixture
def archive(archive_file: Path) -> Archive:
    return load_archive(archive_file)


@pytest.fixture(scope="module")
def photos(cats_and_dogs: Path) -> List[str]:
    return sorted(map(str, (cats_and_dogs / "test").rglob("*.jpg")))


def answers_of(classifier: Any, photos: List[str]) -> List[Dict[str, Any]]:
    pixels = np.stack([classifier.preprocess(photo) for photo in photos])
    return [readable(classifier, Judgement(row)) for row in classifier.probabilities(pixels)]


def assert_answers_are_the_archive_s(
    answers: List[Dict[str, Any]], archive_file: Path, photos: List[str], tolerance: float = 1e-5
) -> None:
    """What a predictor says of the archive, with the keys and the labels it has them under."""
    predictor = ImageClassifierPredictor.from_path(archive_file, import_plugins=False)
    expected = predictor.predict_batch_json([{"image": photo} for photo in photos])
    for answer, wanted in zip(answers, expected, strict=True):
        assert answer.keys() == {"top_k", *({"label", "labels"} & wanted.keys())}
        assert answer.get("label") == wanted.get("label")
        assert answer.get("labels") == wanted.get("labels")
        for entry, other in zip(answer["top_k"], wanted["top_k"], strict=True):
            assert entry["label"] == other["label"]
            assert entry["probability"] == pytest.approx(other["probability"], abs=tolerance)


def test_a_bundle_answers_as_its_archive(
    bundle: Path, archive_file: Path, photos: List[str]
) -> None:
    classifier = OnnxClassifier(bundle)
    assert classifier.preprocessing == Preprocessing(32, 32)
    assert_answers_are_the_archive_s(answers_of(classifier, photos), archive_file, photos)


def vectors_of(classifier: Any, photos: List[str]) -> np.ndarray:
    return classifier.vectors(np.stack([classifier.preprocess(photo) for photo in photos]))


def test_vectors_are_those_of_the_archive(
    bundle: Path, archive_file: Path, photos: List[str]
) -> None:
    archive, classifier = ArchiveClassifier(archive_file, "cpu"), OnnxClassifier(bundle)
    assert classifier.vector_size == archive.vector_size
    given, expected = vectors_of(classifier, photos), vectors_of(archive, photos)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0.01  # images differ


def test_pixels_are_those_of_the_validation_reader(
    bundle: Path, archive: Archive, photos: List[str]
) -> None:
    classifier = OnnxClassifier(bundle)
    for photo in photos:
        image = archive.validation_dataset_reader.text_to_instance(photo)["image"].as_tensor({})
        assert np.array_equal(classifier.preprocess(photo), image.permute(1, 2, 0).numpy())


def test_the_manifest_says_what_is_in_the_bundle(bundle: Path) -> None:
    manifest = open_bundle(bundle)
    assert sorted(manifest.labels) == ["Cat", "Dog"]
    assert (manifest.task, manifest.thresholds) == ("single_label", None)
    assert (manifest.format, manifest.precision) == ("onnx", "float32")
    assert sorted(os.listdir(bundle)) == ["README.md", "manifest.json", "model.onnx"]
    assert manifest.files.keys() == {"README.md", "model.onnx"}
    assert manifest.versions["torch"] == torch.__version__.partition("+")[0]
    parity = manifest.parity
    assert parity is not None
    assert (parity.images, parity.agreement) == (10, 1)  # the validation data
    assert parity.largest_difference < 1e-5
    text = " ".join((bundle / "README.md").read_text().split())
    assert "allencv serve ." in text
    assert "one of 2 labels. `model.onnx` is the network (onnx, float32)." in text
    assert "on 10 images: 100.00% have the same labels; probabilities differ by at most" in text


def test_the_file_says_nothing_of_the_machine_that_made_it(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert b".py" not in (bundle / "model.onnx").read_bytes()
    assert [opset.version for opset in model.opset_import] == [20]
    (image,), (probabilities, vector) = model.graph.input, model.graph.output
    for value, name, sizes in (
        (image, "image", ["batch", 32, 32, 3]),
        (probabilities, "probabilities", ["batch", 2]),
        (vector, "vector", ["batch", open_bundle(bundle).vector_size]),
    ):
        dimensions = value.type.tensor_type.shape.dim
        assert value.name == name
        assert [each.dim_param or each.dim_value for each in dimensions] == sizes


@pytest.mark.parametrize("name", ["README.md", "manifest.json", "model.onnx"])
def test_a_changed_byte_is_refused(bundle: Path, name: str) -> None:
    original = (bundle / name).read_bytes()
    try:
        changed = bytearray(original)
        changed[len(changed) // 2] ^= 1
        (bundle / name).write_bytes(changed)
        with pytest.raises(BundleError, match=name):
            OnnxClassifier(bundle)
    finally:
        (bundle / name).write_bytes(original)
    OnnxClassifier(bundle)


@pytest.mark.usefixtures("exported_before")
def test_half_precision(archive_file: Path, bundle: Path, photos: List[str]) -> None:
    folder = archive_file.parent / "half"
    manifest = export_bundle(load_archive(archive_file), folder, precision="float16")
    assert manifest.parity is not None
    assert 0 < manifest.parity.largest_difference < 0.01
    assert open_bundle(folder) == manifest
    sizes = [(each / "model.onnx").stat().st_size for each in (folder, bundle)]
    assert sizes[0] < 0.75 * sizes[1]
    weights = onnx.load(folder / "model.onnx").graph.initializer
    assert {each.data_type for each in weights if len(each.dims) == 4} == {onnx.TensorProto.FLOAT16}
    half = OnnxClassifier(folder)
    assert_answers_are_the_archive_s(answers_of(half, photos), archive_file, photos, tolerance=0.01)
    given, expected = vectors_of(half, photos), vectors_of(OnnxClassifier(bundle), photos)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=0.02, atol=0.02)
    assert (given != expected).any()


@pytest.mark.usefixtures("exported_before")
def test_int8(archive_file: Path, bundle: Path, cats_and_dogs: Path, photos: List[str]) -> None:
    folder = archive_file.parent / "int8"
    calibration = sorted((cats_and_dogs / "train").rglob("*.jpg"))
    manifest = export_bundle(
        load_archive(archive_file), folder, "onnx", "int8", photos, calibration, tolerance=0.1
    )
    assert manifest.parity is not None
    assert manifest.parity.images == len(photos)
    assert 0 < manifest.parity.largest_difference < 0.1
    graph = onnx.load(folder / "model.onnx").graph
    kernels = [each for each in graph.initializer if len(each.dims) == 4]
    kinds = [each.data_type for each in kernels]
    assert {*kinds} == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT}
    assert kinds.count(onnx.TensorProto.FLOAT) == 1  # the first layer
    zero_points = [each for each in graph.initializer if "zero_point" in each.name]
    assert onnx.TensorProto.UINT8 in {each.data_type for each in zero_points}  # activations
    # A scale for each channel of the output.
    scales = [each for each in graph.initializer if each.name.endswith("scale") and each.dims]
    assert {each.dims[0] for each in kernels} <= {each.dims[0] for each in scales}
    classifier = OnnxClassifier(folder)
    assert_answers_are_the_archive_s(
        answers_of(classifier, photos), archive_file, photos, tolerance=0.1
    )
    given, expected = vectors_of(classifier, photos), vectors_of(OnnxClassifier(bundle), photos)
    cosines = (given * expected).sum(1) / np.linalg.norm(given, axis=1)
    assert (cosines / np.linalg.norm(expected, axis=1)).min() > 0.99


def test_torch_export(archive_file: Path, photos: List[str]) -> None:
    folder = archive_file.parent / "torch"
    manifest = export_bundle(load_archive(archive_file), folder, format="torch_export")
    assert manifest.parity is not None
    assert manifest.parity.largest_difference < 1e-6
    assert sorted(os.listdir(folder)) == ["README.md", "manifest.json", "model.pt2"]
    classifier = TorchClassifier(folder, trusted=True)
    answers = answers_of(classifier, photos)
    assert_answers_are_the_archive_s(answers, archive_file, photos, tolerance=1e-6)
    expected = vectors_of(ArchiveClassifier(archive_file, "cpu"), photos)
    np.testing.assert_allclose(vectors_of(classifier, photos), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(BundleError, match=r"model.pt2: torch may run code .*trusted=True"):
        TorchClassifier(folder)
    with pytest.raises(BundleError, match=r"its format is torch_export, .*; expected onnx"):
        OnnxClassifier(folder)


def test_an_onnx_bundle_is_not_for_torch(bundle: Path) -> None:
    with pytest.raises(BundleError, match="its format is onnx; expected torch_export"):
        TorchClassifier(bundle, trusted=True)


def test_a_model_of_several_labels_that_looks_twice(
    cats_and_dogs: Path, photos: List[str], tmp_path: Path
) -> None:
    """With thresholds, views at test time, grey images of another shape, and a reader's mean."""
    config = multilabel_experiment(
        write_tables(cats_and_dogs, tmp_path),
        trainer__num_epochs=1,
        model__thresholds={"Cat": 0.4, "Dog": 0.3, "small": 0.05},
        model__test_time_augmentation=["horizontal_flip", "rotate_180"],
        model__im2im_encoder__input_channels=1,
    )
    transforms = [
        {"type": "eval", "size": [24, 40], "fit": "pad", "interpolation": "bicubic"},
        {"type": "normalize", "mean": [0.4], "std": [0.3]},
    ]
    for reader in ("dataset_reader", "validation_dataset_reader"):
        config[reader] |= {
            "color_mode": "L",
            "value_range": [0, 4095],
            "transforms": deepcopy(transforms),
        }
    depths = np.random.default_rng(0).integers(0, 4096, (50, 60), np.uint16)
    Image.fromarray(depths).save(tmp_path / "depths.tif")
    photos = [*photos, str(tmp_path / "depths.tif")]
    train_model(Params(config), tmp_path / "run")
    archive_file = tmp_path / "run" / "model.tar.gz"
    manifest = export_bundle(load_archive(archive_file), tmp_path / "bundle")
    assert sorted(manifest.labels) == LABELS
    assert manifest.multi_label
    assert manifest.thresholds is not None
    thresholds = dict(zip(manifest.labels, manifest.thresholds))
    assert thresholds == pytest.approx({"Cat": 0.4, "Dog": 0.3, "even": 0.5, "small": 0.05})
    expected = Preprocessing(24, 40, "pad", 0.875, "bicubic", "L", (0, 4095))
    assert manifest.preprocessing == expected
    classifier = OnnxClassifier(tmp_path / "bundle")
    answers = answers_of(classifier, photos)
    assert any(answer["labels"] for answer in answers)
    assert_answers_are_the_archive_s(answers, archive_file, photos)
    # Those of the archive normalise in the reader, which has no views either.
    expected = vectors_of(ArchiveClassifier(archive_file, "cpu"), photos)
    np.testing.assert_allclose(vectors_of(classifier, photos), expected, rtol=1e-4, atol=1e-5)


def test_weights_in_channels_last_order(archive: Archive, bundle: Path, tmp_path: Path) -> None:
    archive.model.to(memory_format=torch.channels_last)
    assert archive.model.is_channels_last()
    export_bundle(archive, tmp_path / "bundle")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    first, second = (
        OnnxClassifier(folder).probabilities(pixels) for folder in (bundle, tmp_path / "bundle")
    )
    np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.usefixtures("exported_before")
def test_what_differs_too_much_is_not_written(archive: Archive, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bundle"
    with pytest.raises(ConfigurationError) as raised:
        export_bundle(archive, folder, precision="float16", tolerance=1e-9)
    message = str(raised.value)
    assert message.startswith("the bundle differs from the archive: of 10 images 100.00% have the")
    assert "(expected at most 1e-09); nothing was written" in message
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.usefixtures("exported_before")
def test_an_unreadable_image_stops_the_comparison(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("a text")
    with pytest.raises(ValueError, match=r"bad.jpg: not an image"):
        export_bundle(archive, tmp_path / "bundle", images=[str(tmp_path / "bad.jpg")])
    assert os.listdir(tmp_path) == ["bad.jpg"]


@pytest.mark.usefixtures("exported_before")
def test_without_a_comparison_the_manifest_says_so(archive: Archive, tmp_path: Path) -> None:
    archive.config.params.pop("validation_data_path")
    with pytest.raises(ConfigurationError, match="no validation_data_path to compare on; give som"):
        export_bundle(archive, tmp_path / "bundle")
    assert os.listdir(tmp_path) == []
    export_bundle(archive, tmp_path / "bundle", parity=False)
    assert json.loads((tmp_path / "bundle" / "manifest.json").read_text())["parity"] is None
    assert "was not compared" in (tmp_path / "bundle" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "tflite"}, "format is 'tflite'; expected one of onnx, torch_export"),
        ({"precision": "int4"}, "precision is 'int4'; expected one of int8, float16, float32"),
        ({"precision": "int8"}, r"int8 needs images .*quantization-images"),
        ({"quantization_images": ["a.jpg"]}, "but precision is 'float32'; expected int8"),
        ({"format": "torch_export", "precision": "float16"}, "expected float32 for torch_export"),
        ({"tolerance": 1.5}, "the tolerance 1.5; expected numbers in"),
        ({"least_agreement": float("nan")}, "the least agreement is nan"),
        ({"images": []}, "no images to compare on"),
    ],
)
def test_bad_arguments(
    archive: Archive, tmp_path: Path, arguments: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export_bundle(archive, tmp_path / "bundle", **arguments)
    assert os.listdir(tmp_path) == []


def test_validation_data_that_have_moved(archive: Archive, tmp_path: Path) -> None:
    archive.config.params["validation_data_path"] = str(tmp_path / "moved")
    with pytest.raises(
        ConfigurationError, match=r"no images to compare on \(.*moved.*--parity-images"
    ):
        export_bundle(archive, tmp_path / "bundle")
