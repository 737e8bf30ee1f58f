from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.predictors import ImageClassifierPredictor, archive_classifier
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import Classifier, ImageError, Preprocessing, readable
from allencv.runtime.certainty import Judgement
from tests.configs import experiment
from tests.models.multilabel_data import LABELS, multilabel_experiment, write_tables

NORMALIZE = {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def trained(config: Dict[str, Any], folder: Path) -> Path:
    config["data_loader"]["num_workers"] = 0
    train_model(Params(config), folder)
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def archive(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pets"
    folder.symlink_to(trained_run)
    return folder / "model.tar.gz"


@pytest.fixture
def images(cats_and_dogs: Path) -> List[str]:
    return sorted(map(str, (cats_and_dogs / "test").rglob("*.jpg")))


def check_that_it_answers_as_the_predictor(archive: Path, images: List[str]) -> None:
    classifier: Classifier = ArchiveClassifier(archive, "cpu")
    predictor = ImageClassifierPredictor.from_path(archive, import_plugins=False)
    for image in images:
        expected = predictor.predict(image)
        (row,) = classifier.probabilities(classifier.preprocess(image)[None])
        assert (row.dtype, row.shape) == (np.float32, (len(classifier.labels),))
        assert row.tolist() == expected["probs"]
        answer = readable(classifier, Judgement(row))
        assert answer == {key: expected[key] for key in answer}


def test_it_answers_as_the_predictor(archive: Path, images: List[str]) -> None:
    check_that_it_answers_as_the_predictor(archive, images)


def test_an_encoder_without_a_trained_weight_is_frozen(archive: Path) -> None:
    classifier = ArchiveClassifier(archive, "cpu")
    assert not classifier.encoder_is_frozen
    classifier._model.vector_network.requires_grad_(False)
    assert classifier.encoder_is_frozen
    classifier._model.requires_grad_(True)
    assert not classifier.encoder_is_frozen
    classifier.config["trainer"]["no_grad"] = ["_im2im_encoder.stages.0"]
    assert not classifier.encoder_is_frozen
    classifier.config["trainer"]["no_grad"] = ["^_im2im_encoder", "^_im2vec"]
    assert classifier.encoder_is_frozen


def test_vectors_give_the_same_probabilities(
    archive: Path, images: List[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_classifier, "VECTORS_AT_ONCE", 3)
    classifier = ArchiveClassifier(archive, "cpu")
    pixels = np.stack([classifier.preprocess(image) for image in images])
    probs = classifier.probabilities_of_vectors(classifier.vectors(pixels))
    assert len(probs) == len(images) > 3
    np.testing.assert_allclose(probs, classifier.probabilities(pixels), atol=1e-6)


def test_it_predicts_in_the_memory_order_that_the_trainer_chooses(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: List[Any] = []
    for name in ("archive_classifier", "image_classifier_predictor"):
        monkeypatch.setattr(
            f"allencv.predictors.{name}.set_memory_format", lambda *values: chosen.append(values)
        )
    classifier = ArchiveClassifier(archive, "cpu")
    predictor: Any = ImageClassifierPredictor.from_path(archive, import_plugins=False)
    cpu = torch.device("cpu")
    assert chosen == [(classifier._model, None, cpu), (predictor._model, None, cpu)]


def test_probabilities_and_vectors_at_once(archive: Path, images: List[str]) -> None:
    classifier = ArchiveClassifier(archive, "cpu")
    assert classifier.certainty is None
    batches = [np.stack([classifier.preprocess(image)]) for image in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(classifier.outputs, batches * 5))
    for batch, (probabilities, vectors) in zip(batches * 5, found, strict=True):
        np.testing.assert_allclose(probabilities, classifier.probabilities(batch), atol=1e-6)
        np.testing.assert_allclose(vectors, classifier.vectors(batch), atol=1e-5)


def test_what_it_says_of_itself(archive: Path, images: List[str]) -> None:
    classifier = ArchiveClassifier(archive, "cpu")
    assert classifier.name == "pets/model.tar.gz"
    assert sorted(classifier.labels) == ["Cat", "Dog"]
    assert (classifier.multi_label, classifier.thresholds) == (False, None)
    assert classifier.preprocessing == Preprocessing(32, 32)
    pixels = classifier.preprocess(images[0])
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, classifier.preprocessing(images[0]))
    assert np.array_equal(pixels, classifier.preprocess(Path(images[0]).read_bytes()))
    batch = np.stack([classifier.preprocess(image) for image in images])
    assert classifier.probabilities(batch).shape == (len(images), 2)
    with pytest.raises(ImageError, match=r"nowhere.jpg: No such file"):
        classifier.preprocess("nowhere.jpg")


def test_the_checksum_is_that_of_the_contents(archive: Path, tmp_path: Path) -> None:
    checksum = ArchiveClassifier(archive, "cpu").checksum
    assert ArchiveClassifier(archive.parent, "cpu").checksum == checksum  # the folder of the run
    weights = torch.load(archive.parent / "best.th")
    weights["_classification_layer.bias"][0] += 1
    for name in ("config.json", "vocabulary"):
        (tmp_path / name).symlink_to(archive.parent / name)
    torch.save(weights, tmp_path / "best.th")
    assert ArchiveClassifier(tmp_path, "cpu").checksum != checksum


def test_any_number_of_labels(cats_and_dogs: Path, images: List[str], tmp_path: Path) -> None:
    thresholds = {"Cat": 0.25, "Dog": 0.0, "small": 0.75}
    config = multilabel_experiment(
        write_tables(cats_and_dogs, tmp_path),
        trainer__num_epochs=1,
        model__thresholds=thresholds,
    )
    archive = trained(config, tmp_path / "run")
    classifier = ArchiveClassifier(archive)
    assert sorted(classifier.labels) == LABELS
    assert classifier.multi_label
    assert classifier.thresholds is not None
    assert dict(zip(classifier.labels, classifier.thresholds)) == {"even": 0.5, **thresholds}
    check_that_it_answers_as_the_predictor(archive, images)


@pytest.mark.parametrize(
    ("transforms", "dtype"),
    [
        (None, np.uint8),
        ([{"type": "resize", "size": 24}, {"type": "center_crop", "size": 20}], np.uint8),
        ([{"type": "eval", "size": 32}, NORMALIZE], np.float32),
    ],
)
def test_other_transforms(
    cats_and_dogs: Path, images: List[str], tmp_path: Path, transforms: Any, dtype: Any
) -> None:
    reader = {"type": "image_folder", "color_mode": "RGB", "transforms": transforms}
    config = experiment(cats_and_dogs, trainer__num_epochs=1, validation_dataset_reader=reader)
    config["validation_data_loader"] = {"type": "image", "batch_size": 1}
    archive = trained(config, tmp_path / "run")
    classifier = ArchiveClassifier(archive, "cpu")
    assert classifier.preprocessing is None
    assert classifier.preprocess(images[0]).dtype == dtype
    check_that_it_answers_as_the_predictor(archive, images[:3])


def test_a_size_that_the_network_does_not_take_is_an_error_of_the_image(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    """Without a resize, an image has the size of its file."""
    for label in ("Cat", "Dog"):
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "val" / label / "a.png")
    config = experiment(cats_and_dogs, trainer__num_epochs=1)
    config["validation_data_path"] = str(tmp_path / "val")
    config["validation_dataset_reader"]["transforms"] = None
    flatten = {"type": "flatten", "input_channels": 3, "input_height": 32, "input_width": 32}
    config["model"] = {"type": "basic_image_classifier", "im2vec_encoder": flatten}
    classifier = ArchiveClassifier(trained(config, tmp_path / "run"), "cpu")
    assert classifier.probabilities(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 2)
    message = "the network does not take images of 24 x 20 pixels: FlattenEncoder expects images of"
    with pytest.raises(ImageError, match=message):
        classifier.probabilities(np.zeros((2, 20, 24, 3), np.uint8))
    classifier.preprocessing = Preprocessing(32, 32)  # now it is none of the image's faults
    with pytest.raises(ConfigurationError, match="^FlattenEncoder expects images of"):
        classifier.probabilities(np.zeros((2, 20, 24, 3), np.uint8))


def test_other_colours(cats_and_dogs: Path, images: List[str], tmp_path: Path) -> None:
    config = experiment(cats_and_dogs, trainer__num_epochs=1)
    for reader in ("dataset_reader", "validation_dataset_reader"):
        config[reader] |= {"color_mode": "L", "value_range": [0, 1]}
    config["model"] |= {"pixel_mean": [0.5], "pixel_std": [0.25]}
    config["model"]["im2im_encoder"]["input_channels"] = 1
    archive = trained(config, tmp_path / "run")
    expected = Preprocessing(32, 32, color_mode="L", value_range=(0, 1))
    assert ArchiveClassifier(archive).preprocessing == expected
    values = np.random.default_rng(0).random((40, 50), np.float32)
    Image.fromarray(values).save(tmp_path / "floats.tif")
    check_that_it_answers_as_the_predictor(archive, [*images[:2], str(tmp_path / "floats.tif")])


@pytest.mark.parametrize("device", ["gpu", "cuda:97"])
def test_a_device_that_is_not_there_is_named(archive: Path, device: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^device is '{device}', which does not exist: "):
        ArchiveClassifier(archive, device)


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no model archive at '.*none.tar.gz'"):
        ArchiveClassifier(tmp_path / "none.tar.gz")
