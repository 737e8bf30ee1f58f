import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.certainty.calibrate import calibrate
from allencv.certainty.check_calibration import check_calibration
from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.summary import lines_of_check
from allencv.certainty.unknown_scores import Energy
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.classifier import judged, readable
from allencv.runtime.errors import InputError
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables

WANTED = Wanted(levels=[0.6, 0.8], known_share=0.8, target_accuracy=0.3)


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run in `run`, the images of that in `own`, and others in `test`."""
    folder = tmp_path_factory.mktemp("check")
    shutil.copytree(trained_run, folder / "run")
    write_images(folder / "own", {"Cat": 15, "Dog": 15}, seed=9)
    write_images(folder / "test", {"Cat": 12, "Dog": 8}, seed=10)
    calibrated(folder / "run", folder / "own")
    return folder


def calibrated(run: Path, images: Path, wanted: Wanted = WANTED) -> None:
    calibrate(run, str(images), wanted, Energy(), device="cpu", show_progress=False)


def checked(run: Path, images: Path) -> Any:
    return check_calibration(run, str(images), "cpu", show_progress=False)


def test_the_numbers_are_those_of_the_answers(folder: Path) -> None:
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    found = checked(folder / "run", folder / "test")
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    classifier = ArchiveClassifier(folder / "run", "cpu")
    names = sorted((folder / "test").rglob("*.jpg"))
    pixels = np.stack([classifier.preprocess(str(name)) for name in names])
    answers = [readable(classifier, each) for each in judged(classifier, pixels)]
    right = [name.parent.name for name in names]
    pairs = list(zip(right, answers))
    assert found.accuracy == np.mean([label == answer["label"] for label, answer in pairs])
    assert found.unknown == np.mean([answer["is_unknown"] for answer in answers])
    answered = [pair for pair in pairs if pair[1]["is_answered"]]
    assert found.answered == len(answered) / 20
    assert found.answered_right == np.mean([label == each["label"] for label, each in answered])
    first = found.sets[0]
    assert first.coverage == np.mean([label in answer["labels"] for label, answer in pairs])
    assert first.size == np.mean([len(answer["labels"]) for answer in answers])
    shares = {
        own: np.mean([own in answer["labels"] for label, answer in pairs if label == own])
        for own in classifier.labels
    }
    place, share, count = first.worst
    assert share == min(shares.values()) == shares[classifier.labels[place]]
    assert count == right.count(classifier.labels[place])
    assert len(found.sets) == 2
    assert (found.trained, found.calibrated) == (0, 0)
    assert 0 <= found.error <= 1


def test_the_lines_that_are_printed(folder: Path) -> None:
    found = checked(folder / "run", folder / "test")
    lines = lines_of_check(found)
    assert lines[0] == f"checked on 20 images of {folder / 'test'}"
    titles = [line[:16].strip() for line in lines[1:] if not line.startswith("Warning: ")]
    assert [title for title in titles if title] == [
        *("labels", "probabilities", "sets of labels", "answered", "unknown", "None of these im")
    ]
    text = "\n".join(lines)
    assert "promised for 60% of the images: " in text
    assert "promised for 80% of the images: " in text
    assert text.count("worst label '") == 2
    assert "promised 30%: " in text
    assert f"promised at most 20%: {found.unknown:.1%}" in text
    assert max(map(len, lines[1:])) <= 100
    assert "Warning: 20 images are few" in text


@pytest.mark.parametrize("path", ["run", "run/model.tar.gz"])
def test_images_that_calibrated_the_model_are_said(folder: Path, path: str) -> None:
    found = checked(folder / path, folder / "own")
    assert (found.trained, found.calibrated) == (0, 30)
    assert "30 of these images (100%) also calibrated the model" in " ".join(lines_of_check(found))


def test_images_that_trained_the_model_are_said(folder: Path, cats_and_dogs: Path) -> None:
    found = checked(folder / "run", cats_and_dogs / "train")
    text = " ".join(lines_of_check(found))
    assert "(100%) also trained the model or chose its epoch" in text


def test_calibration_images_that_are_not_here_are_said(
    trained_run: Path, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    own = Path(shutil.copytree(folder / "own", tmp_path / "own"))
    calibrated(tmp_path / "run", own)
    shutil.rmtree(own)
    found = checked(tmp_path / "run", folder / "test")
    assert found.calibrated is None
    text = " ".join(lines_of_check(found))
    assert "It is not known whether these images also calibrated the model" in text


def test_nothing_but_probabilities(trained_run: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_run, tmp_path / "run")
    calibrate(tmp_path / "run", str(folder / "own"), Wanted(sets=None), None, show_progress=False)
    found = checked(tmp_path / "run", folder / "test")
    assert (found.sets, found.answered, found.unknown) == ([], None, None)
    assert "promised" not in "\n".join(lines_of_check(found))


def test_several_labels(cats_and_dogs: Path, tmp_path: Path) -> None:
    tables = write_tables(cats_and_dogs, tmp_path)
    train_model(Params(multilabel_experiment(tables, trainer__num_epochs=1)), str(tmp_path / "run"))
    wanted = Wanted(levels=[0.8], known_share=0.8)
    calibrated(tmp_path / "run", tables / "val.csv", wanted)
    found = checked(tmp_path / "run", tables / "val.csv")
    text = " ".join(lines_of_check(found))
    assert "of an image's labels are in them" in text
    assert "also trained the model" in text
    assert 0 <= found.sets[0].coverage <= 1


def test_an_archive_that_is_not_calibrated_is_refused(trained_run: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="is not calibrated, so --check has nothing to check"):
        checked(trained_run, folder / "test")
