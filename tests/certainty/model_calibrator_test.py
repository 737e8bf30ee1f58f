import errno
import json
import os
from pathlib import Path
from typing import Any, Dict

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.catalogue.find_mistakes import find_mistakes
from allencv.certainty.calibrate import calibrate
from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.model_calibrator import ModelCalibrator
from allencv.common.write_archive import archive_model
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.training.calibrator import Calibrator
from tests.configs import experiment
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables


def config_of(data: Path, images: Path, **calibration: Any) -> Dict[str, Any]:
    config = experiment(data, trainer__num_epochs=1, data_loader__num_workers=0)
    config["calibration_data_path"] = str(images)
    if calibration:
        config["calibration"] = calibration
    return config


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    return write_images(folder / "images", {"Cat": 15, "Dog": 15}, seed=9)


def test_training_ends_with_a_calibrated_archive(
    cats_and_dogs: Path, images: Path, tmp_path: Path
) -> None:
    config = config_of(
        cats_and_dogs,
        images,
        probabilities={"type": "temperature"},
        levels=[0.8, 0.9],
        unknown={"type": "mahalanobis", "shrinkage": 0.1},
        known_share=0.9,
    )
    assert find_mistakes(config) == []
    train_model(Params(config), str(tmp_path / "run"))
    for path in (tmp_path / "run", tmp_path / "run" / "model.tar.gz"):
        certainty = ArchiveClassifier(path, "cpu").certainty
        assert certainty is not None
        assert certainty.images == 30
        assert certainty.sets is not None
        assert certainty.sets.levels == [0.8, 0.9]
        assert certainty.unknown is not None
        assert (certainty.unknown.kind, certainty.unknown.known_share) == ("mahalanobis", 0.9)
    assert (tmp_path / "run" / "predictions" / "calibration.npz").exists()


def test_a_path_alone_is_enough(cats_and_dogs: Path, images: Path, tmp_path: Path) -> None:
    train_model(Params(config_of(cats_and_dogs, images)), str(tmp_path / "run"))
    certainty = ArchiveClassifier(tmp_path / "run", "cpu").certainty
    assert certainty is not None
    assert certainty.unknown is not None
    assert certainty.unknown.kind == "energy"
    assert certainty.sets is not None
    assert certainty.sets.kind == "lac"
    assert f"calibrated on 30 images of {images}" in (tmp_path / "run" / "out.log").read_text()
    # With other weights there, what was found out is removed before they are archived.
    content = json.loads((tmp_path / "run" / "certainty.json").read_text())
    (tmp_path / "run" / "certainty.json").write_text(json.dumps({**content, "model": "other"}))
    archive_model(tmp_path / "run")
    assert not list((tmp_path / "run").glob("certainty.*"))
    assert ArchiveClassifier(tmp_path / "run" / "model.tar.gz", "cpu").certainty is None


def test_images_held_out_of_the_training_folder(cats_and_dogs: Path, tmp_path: Path) -> None:
    """As `allencv fit` holds them out. The same path later means the same images."""
    folder = str(cats_and_dogs / "train")
    config = config_of(cats_and_dogs, cats_and_dogs / "train", levels=[0.6], known_share=0.6)
    config["validation_data_path"] = folder
    config["calibration_dataset_reader"] = {"type": "image_folder"}
    for key, part in (
        ("dataset_reader", "train"),
        ("validation_dataset_reader", "validation"),
        ("calibration_dataset_reader", "calibration"),
    ):
        config[key]["split"] = {
            **{"part": part, "of": folder, "by": "stratified"},
            **{"fraction": 0.25, "calibration_fraction": 0.25},
        }
    assert find_mistakes(config) == []
    train_model(Params(config), str(tmp_path / "run"))
    certainty = ArchiveClassifier(tmp_path / "run", "cpu").certainty
    assert certainty is not None
    assert (certainty.images, certainty.overlap) == (6, 0)
    again = calibrate(
        tmp_path / "run" / "model.tar.gz", f"{folder}/", Wanted(levels=[0.6]), show_progress=False
    )
    assert (again.certainty.images, again.certainty.overlap) == (6, 0)


def test_a_target_that_is_not_reached_leaves_the_model(
    cats_and_dogs: Path, images: Path, tmp_path: Path
) -> None:
    config = config_of(cats_and_dogs, images, target_accuracy=0.999, levels=[0.9])
    train_model(Params(config), str(tmp_path / "run"))
    log = (tmp_path / "run" / "out.log").read_text().splitlines()
    (message,) = [line for line in log if "not calibrated" in line]
    assert "target_accuracy (--target-accuracy) is 99.9%, but 30 images are too few" in message
    command = f"allencv calibrate {tmp_path / 'run'} {images} --levels 0.9 --target-accuracy 0.999"
    assert message.endswith(command)
    assert ArchiveClassifier(tmp_path / "run" / "model.tar.gz", "cpu").certainty is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "calibration_data_path"),
        ({"Cat": 1, "Cow": 1}, "calibration_data_path .* has labels that train_data_path lacks: "),
    ],
)
def test_images_are_checked_before_training(
    cats_and_dogs: Path, tmp_path: Path, labels: Dict[str, int], message: str
) -> None:
    folder = write_images(tmp_path / "images", labels)
    with pytest.raises(ConfigurationError, match=message):
        train_model(Params(config_of(cats_and_dogs, folder)), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "best.th").exists()


@pytest.mark.parametrize(
    ("multi_label", "calibration", "message"),
    [
        (False, {"probabilities": "platt"}, "calibration: probabilities .* is 'platt'"),
        (True, {"by_class": True}, "calibration: by_class .* needs one label an image"),
        (True, {"sets": "aps"}, "calibration: sets .* is 'aps', which needs one label an image"),
    ],
)
def test_what_the_model_does_not_have_is_refused_before_training(
    cats_and_dogs: Path, tmp_path: Path, multi_label: bool, calibration: Any, message: str
) -> None:
    config = experiment(cats_and_dogs)
    if multi_label:
        config = multilabel_experiment(write_tables(cats_and_dogs, tmp_path))
    config["calibration_data_path"] = config["validation_data_path"]
    config["calibration"] = calibration
    with pytest.raises(ConfigurationError, match=message):
        train_model(Params(config), str(tmp_path / "run"))


def test_a_full_disk_leaves_the_model(
    cats_and_dogs: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.tar.gz")

    monkeypatch.setattr("allencv.certainty.calibrate.store_certainty", full)
    train_model(Params(config_of(cats_and_dogs, images)), str(tmp_path / "my run"))
    log = (tmp_path / "my run" / "out.log").read_text()
    assert "not calibrated: [Errno 28] No space left on device: 'model.tar.gz'. Calib" in log
    assert f"allencv calibrate '{tmp_path / 'my run'}' {images}" in log


def test_a_calibration_without_images_is_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = config_of(cats_and_dogs, tmp_path, sets="aps")
    del config["calibration_data_path"]
    with pytest.raises(ConfigurationError, match="has calibration, but no calibration_data_path"):
        train_model(Params(config), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("levels", [0.9, 1.0], "levels[1] is 1.0; expected a number between 0 and 1"),
        ("levels", [], "levels is empty"),
        ("sets", "missed", "sets is 'missed'; expected one of lac, aps, raps, or null"),
        ("target_accuracy", 95, "target_accuracy is 95; expected"),
        ("certainty", 1, "certainty is 1; expected"),
        ("known_share", 0, "known_share is 0; expected"),
    ],
)
def test_values_that_cannot_be(
    cats_and_dogs: Path, images: Path, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        ModelCalibrator(**{key: value})
    assert message in str(error.value)
    (mistake,) = find_mistakes(config_of(cats_and_dogs, images, **{key: value}))
    assert message in mistake.message


def test_mistakes_in_a_config_are_found(cats_and_dogs: Path, images: Path) -> None:
    config = config_of(cats_and_dogs, images, unknown="enrgy", target_acuracy=0.9)
    found = " ".join(mistake.message for mistake in find_mistakes(config))
    assert "energy" in found
    assert "target_accuracy" in found


def test_it_is_the_default() -> None:
    made = Calibrator.from_params(Params({"sets": None, "unknown": None}))
    assert isinstance(made, ModelCalibrator)
    assert json.dumps(Calibrator.list_available()) == '["default"]'
