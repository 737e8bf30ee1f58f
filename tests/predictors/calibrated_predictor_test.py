"""What the predictor answers about a calibrated archive."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive as load_with_allennlp
from allennlp.predictors import Predictor

import allencv.plugin  # noqa: F401
from allencv.certainty.calibrate import calibrate
from allencv.certainty.calibrations import Calibration
from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.unknown_scores import Energy
from allencv.common.archives import load_archive, opened_archive
from allencv.predictors import ImageClassifierPredictor
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import readable
from allencv.runtime.certainty import Scaling
from allencv.runtime.certainty.files import FILES
from allencv.runtime.classifier import judged
from tests.models.multilabel_data import multilabel_experiment, write_tables

pytestmark = pytest.mark.slow
WANTED = Wanted(levels=[0.8], target_accuracy=0.5, known_share=0.8)


class Softer(Calibration):
    """Halves all logits."""

    def fit(self, probabilities: np.ndarray, targets: np.ndarray) -> Scaling:
        labels = probabilities.shape[1]
        return Scaling([0.5] * labels, [0.0] * labels)


@pytest.fixture(scope="module")
def archive_file(
    trained_run: Path, cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    file = shutil.copy(trained_run / "model.tar.gz", tmp_path_factory.mktemp("run"))
    wanted = replace(WANTED, calibration=Softer())  # all answers are right: no other would change
    calibrate(file, str(cats_and_dogs / "train"), wanted, Energy(), show_progress=False)
    return Path(file)


@pytest.fixture(scope="module")
def images(cats_and_dogs: Path) -> List[str]:
    return sorted(map(str, (cats_and_dogs / "test").rglob("*.jpg")))


def check_that_it_answers_as_classify(predictor: Any, archive: Path, images: List[str]) -> None:
    classifier = ArchiveClassifier(archive, "cpu")
    rows = np.stack([classifier.preprocess(image) for image in images])
    raw = classifier.probabilities(rows)
    answers = predictor.predict_batch_json([{"image": image} for image in images])
    for answer, judgement, own in zip(answers, judged(classifier, rows), raw, strict=True):
        expected = readable(classifier, judgement)
        ranked = [each["probability"] for each in answer["top_k"]]
        assert ranked == pytest.approx(
            [each["probability"] for each in expected["top_k"]], abs=1e-5
        )
        for key in expected.keys() - {"top_k"}:
            assert answer[key] == expected[key]
        assert answer["probs"] == pytest.approx(own.tolist(), abs=1e-6)
        assert {"is_unknown", "is_answered", "logits", "metadata"} < answer.keys()
    assert any(max(each["probs"]) != each["top_k"][0]["probability"] for each in answers)


def test_it_answers_as_classify(archive_file: Path, images: List[str]) -> None:
    predictor = ImageClassifierPredictor.from_path(archive_file, import_plugins=False)
    check_that_it_answers_as_classify(predictor, archive_file, images)


def test_the_predictor_of_allennlp_knows_the_calibration(
    archive_file: Path, images: List[str]
) -> None:
    predictor = Predictor.from_archive(load_with_allennlp(archive_file))
    check_that_it_answers_as_classify(predictor, archive_file, images)


def test_errors_stay_where_they_are(archive_file: Path, images: List[str]) -> None:
    predictor = ImageClassifierPredictor.from_path(archive_file, import_plugins=False)
    first, bad, second = predictor.predict([images[0], "nowhere.jpg", images[-1]])
    assert "error" in bad
    assert first["label"] != second["label"]
    assert "is_answered" in second


def test_several_labels_and_views(cats_and_dogs: Path, images: List[str], tmp_path: Path) -> None:
    config = multilabel_experiment(
        write_tables(cats_and_dogs, tmp_path),
        trainer__num_epochs=1,
        model__test_time_augmentation=["horizontal_flip"],
    )
    data = config["validation_data_path"]
    train_model(Params(config), tmp_path / "run")
    archive_file = tmp_path / "run" / "model.tar.gz"
    wanted = Wanted(levels=[0.5], known_share=0.8, target_accuracy=0.05, certainty=0.5)
    calibrate(archive_file, data, wanted, Energy(), show_progress=False)
    predictor = ImageClassifierPredictor.from_path(archive_file, import_plugins=False)
    check_that_it_answers_as_classify(predictor, archive_file, images)
    assert "possible_labels" in predictor.predict(images[0])


def test_a_calibration_of_other_weights_is_refused(
    archive_file: Path, trained_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run", symlinks=False)
    plain = ArchiveClassifier(run, "cpu")
    with opened_archive(archive_file) as folder:
        for name in FILES:
            shutil.copy(folder / name, run / name)
    assert ArchiveClassifier(run, "cpu").certainty is not None
    assert ArchiveClassifier(run, "cpu").checksum != plain.checksum
    other = dict(ArchiveClassifier(run, "cpu")._model.state_dict())
    name = next(name for name, value in other.items() if value.is_floating_point())
    torch.save({**other, name: other[name] + 1}, run / "best.th")
    (run / "checksums.json").unlink(missing_ok=True)
    with pytest.raises(ConfigurationError, match="was made for other weights than best"):
        load_archive(run)
    for file in FILES:
        (run / file).unlink()
    assert load_archive(run).model.certainty is None


def test_a_damaged_calibration_is_refused(archive_file: Path, tmp_path: Path) -> None:
    with opened_archive(archive_file) as folder:
        run = shutil.copytree(folder, tmp_path / "run")
    (run / "checksums.json").unlink()
    (run / "certainty.npz").write_bytes(b"no zip file")
    with pytest.raises(ConfigurationError, match="certainty.npz: cannot be read: BadZipFile") as e:
        ArchiveClassifier(run, "cpu")
    assert "\n" not in str(e.value)
