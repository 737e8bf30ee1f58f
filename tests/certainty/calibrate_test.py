import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.certainty.calibrate import calibrate
from allencv.certainty.calibration_record import read_record
from allencv.certainty.fit_certainty import Wanted
from allencv.certainty.summary import lines_of
from allencv.certainty.unknown_scores import Auto, Energy, Mahalanobis, MaxProbability, Nearest
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.certainty.files import FILES
from allencv.runtime.classifier import judged, readable
from allencv.runtime.errors import InputError
from allencv.runtime.file_locks import lock
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    return write_images(folder / "images", {"Cat": 15, "Dog": 15}, seed=9)


@pytest.fixture
def run_folder(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def calibrated(path: Path, images: Path, **options: Any) -> Any:
    wanted = options.pop("wanted", Wanted(levels=[0.8], known_share=0.8, target_accuracy=0.3))
    options = {"score": Energy(), "device": "cpu", "show_progress": False, **options}
    return calibrate(path, str(images), wanted, **options)


def test_an_archive_is_calibrated(run_folder: Path, images: Path) -> None:
    archive = run_folder / "model.tar.gz"
    alone = Path(shutil.move(archive, run_folder.parent / "model.tar.gz"))
    before = ArchiveClassifier(alone, "cpu")
    assert before.certainty is None
    found = calibrated(alone, images)
    assert found.written == [alone]
    after = ArchiveClassifier(alone, "cpu")
    assert after.certainty is not None
    assert after.certainty.overlap == 0
    assert (after.certainty.images, after.certainty.data) == (30, str(images))
    assert after.certainty.model == before.weights_checksum
    # The network is as before, and its answers say more.
    pixels = np.stack([after.preprocess(str(each)) for each in sorted(images.rglob("*.jpg"))[:3]])
    assert (after.probabilities(pixels) == before.probabilities(pixels)).all()
    for judgement in judged(after, pixels):
        answer = readable(after, judgement)
        assert {"label", "labels", "is_unknown", "is_answered", "top_k"} == set(answer)
        assert answer["label"] in answer["labels"]
    assert load_archive(alone).model is not None  # AllenNLP itself can read it
    # Calibrated again, it is replaced.
    again = calibrated(alone, images, score=None)
    assert ArchiveClassifier(alone, "cpu").certainty.unknown is None
    assert again.certainty.scaling == found.certainty.scaling


@pytest.mark.parametrize(("is_frozen", "expected"), [(True, "nearest"), (False, "energy")])
def test_the_default_score_depends_on_the_encoder(
    run_folder: Path,
    images: Path,
    is_frozen: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ArchiveClassifier, "encoder_is_frozen", is_frozen)
    found = calibrated(run_folder, images, score=Auto())
    assert found.certainty.unknown.kind == expected


def test_the_folder_of_a_run_and_the_archive_in_it(run_folder: Path, images: Path) -> None:
    found = calibrated(run_folder, images)
    record_file = run_folder / "predictions" / "calibration.npz"
    archive = run_folder / "model.tar.gz"
    assert found.written == [*(run_folder / name for name in FILES), archive, record_file]
    with tarfile.open(archive) as opened:
        assert set(FILES) < set(opened.getnames())
    for path in (run_folder, archive):
        assert ArchiveClassifier(path, "cpu").certainty is not None
    record = read_record(run_folder)
    assert record is not None
    assert record.labels.tolist() == found.labels
    assert record.targets.argmax(axis=1).tolist() == found.known.targets.tolist()
    assert record.members.shape == (30, 2)
    assert sorted(record.scores.tolist()) == found.certainty.known_scores.tolist()
    assert [Path(name).parent.name for name in record.names] == ["Cat"] * 15 + ["Dog"] * 15


def test_a_run_with_new_weights_is_calibrated_again(run_folder: Path, images: Path) -> None:
    calibrated(run_folder, images)
    content = json.loads((run_folder / "certainty.json").read_text())
    (run_folder / "certainty.json").write_text(json.dumps({**content, "model": "others"}))
    calibrated(run_folder, images)
    assert json.loads((run_folder / "certainty.json").read_text())["model"] != "others"
    assert ArchiveClassifier(run_folder, "cpu").certainty is not None
    assert read_record(run_folder) is not None


@pytest.mark.parametrize("score", [MaxProbability(), Mahalanobis(), Nearest(neighbour=2)])
def test_scores_of_training_images(run_folder: Path, images: Path, score: Any) -> None:
    found = calibrated(run_folder, images, score=score)
    classifier = ArchiveClassifier(run_folder, "cpu")
    pixels = np.stack([classifier.preprocess(name) for name in found.known.names])
    judgements = judged(classifier, pixels)
    scores = np.sort(np.array([each.unknown_score for each in judgements], np.float32))
    assert scores == pytest.approx(found.certainty.known_scores, rel=1e-4, abs=1e-6)
    assert sum(bool(each.is_unknown) for each in judgements) == 5  # of 31 * 0.8, 25 are within


def test_training_images_that_are_not_here(run_folder: Path, images: Path) -> None:
    with pytest.raises(InputError, match=r"'nearest' needs the training images.*--train-data"):
        calibrated(run_folder, images, score=Nearest(), train_data="nowhere")
    assert not (run_folder / "certainty.json").exists()


def test_images_of_other_things_are_measured(run_folder: Path, images: Path) -> None:
    other = run_folder.parent / "other.png"
    Image.new("RGB", (40, 40), "white").save(other)
    found = calibrated(run_folder, images, unknown_images=[str(other)])
    assert found.unknown_scores.shape == (1,)
    assert "of the 1 image of --unknown-images" in "\n".join(lines_of(found))


def test_a_score_that_finds_few_images_of_other_things_is_said(
    run_folder: Path, images: Path
) -> None:
    """Images like the known ones are hardly told apart, and "nearest" is the last advice."""
    advice = "hardly more than for known images. Try --unknown nearest"
    found = calibrated(run_folder, images, unknown_images=[str(images)])
    assert advice in "\n".join(lines_of(found))
    all_found = replace(found, unknown_scores=np.full(10, np.inf))
    assert advice not in "\n".join(lines_of(all_found))
    found = calibrated(run_folder, images, score=Nearest(2), unknown_images=[str(images)])
    assert advice not in "\n".join(lines_of(found))


def test_levels_that_the_labels_alone_reach_are_said(run_folder: Path, images: Path) -> None:
    found = calibrated(run_folder, images, wanted=Wanted(levels=[0.8, 0.9]))
    one_label = replace(found, found=replace(found.found, sizes=[1.0, 1.2]))
    assert "so each set at 80% has one label. Use" in " ".join(
        " ".join(lines_of(one_label)).split()
    )
    several = replace(found, found=replace(found.found, sizes=[1.01, 1.2]))
    assert "has one label" not in " ".join(lines_of(several))


def test_too_few_images_are_refused_before_the_network_computes(
    run_folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ArchiveClassifier, "outputs")
    for wanted, message in (
        (Wanted(levels=[0.995]), r"levels \(--levels\) has 99.5%, and 30 images.*at least 199"),
        (Wanted(known_share=0.99), r"known_share \(--known-share\) is 99%, and 30 images"),
    ):
        with pytest.raises(InputError, match=message):
            calibrated(run_folder, images, wanted=wanted)


def test_images_that_trained_the_model(run_folder: Path, cats_and_dogs: Path) -> None:
    found = calibrated(run_folder, cats_and_dogs / "train")
    assert found.certainty.overlap == 24
    text = " ".join(lines_of(found))
    assert "24 of these images (100%) also trained the model or chose its epoch" in text


def test_training_data_that_are_not_here_are_said(run_folder: Path, images: Path) -> None:
    config = json.loads((run_folder / "config.json").read_text())
    (run_folder / "config.json").write_text(json.dumps({**config, "train_data_path": "nowhere"}))
    found = calibrated(run_folder, images)
    assert found.certainty.overlap is None
    assert "It is not known whether" in " ".join(lines_of(found))


def test_several_labels(cats_and_dogs: Path, tmp_path: Path) -> None:
    tables = write_tables(cats_and_dogs, tmp_path)
    config = multilabel_experiment(tables, trainer__num_epochs=1)
    train_model(Params(config), str(tmp_path / "run"))
    wanted = Wanted(levels=[0.8], known_share=0.8, target_accuracy=0.05, certainty=0.5)
    found = calibrated(tmp_path / "run", tables / "val.csv", wanted=wanted)
    assert found.certainty.sets.kind == "missed"
    classifier = ArchiveClassifier(tmp_path / "run", "cpu")
    pixels = np.stack([classifier.preprocess(name) for name in found.known.names[:4]])
    answers = [readable(classifier, each) for each in judged(classifier, pixels)]
    assert all({"labels", "possible_labels", "is_answered"} < set(each) for each in answers)
    text = "\n".join(lines_of(found))
    assert "a slope for each label" in text
    assert "of an image's labels are in them" in text


def test_the_lines_that_are_printed(run_folder: Path, images: Path) -> None:
    found = calibrated(run_folder, images)
    lines: List[str] = lines_of(found)
    assert lines[0] == f"calibrated on 30 images of {images}"
    titles = [line[:16].strip() for line in lines[1:] if not line.startswith("Warning: ")]
    assert [title for title in titles if title] == [
        *("probabilities", "sets of labels", "answered", "unknown")
    ]
    assert max(map(len, lines[1:])) <= 100
    assert "at 80%: " in lines[2]


def test_few_images_and_labels_without_images_are_said(run_folder: Path, images: Path) -> None:
    found = calibrated(run_folder, images)
    text = " ".join(lines_of(found))
    assert "Warning: 30 images are few" in text
    assert "no image has the label" not in text
    cats = Path(shutil.copytree(images, run_folder.parent / "images"))
    shutil.rmtree(cats / "Dog")
    text = " ".join(lines_of(calibrated(run_folder, cats)))
    assert "Warning: no image has the label Dog." in text
    many = found.known._replace(targets=np.tile(found.known.targets, 7))
    assert "Warning" not in " ".join(lines_of(replace(found, known=many)))


def test_broken_images_are_left_out_and_said(run_folder: Path, images: Path) -> None:
    copy = Path(shutil.copytree(images, run_folder.parent / "images"))
    (copy / "Cat" / "000.jpg").write_text("none")
    found = calibrated(run_folder, copy)
    assert found.certainty.images == 29
    lines = lines_of(found)
    place = lines.index("left out: 1 image that cannot be read")
    assert lines[place + 1].count("000.jpg") == 1


def unreadable(folder: Path) -> Path:
    for label in ("Cat", "Dog"):
        (folder / label).mkdir(parents=True)
        (folder / label / "0.jpg").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("score", [Nearest(), Mahalanobis()])
def test_training_images_that_cannot_be_read(
    run_folder: Path, images: Path, tmp_path: Path, score: Any
) -> None:
    damaged = unreadable(tmp_path / "damaged")
    with pytest.raises(InputError, match="needs the training images, .*not one of 2 images: .*jpg"):
        calibrated(run_folder, images, score=score, train_data=str(damaged))


def test_images_of_other_things_that_cannot_be_read(
    run_folder: Path, images: Path, tmp_path: Path
) -> None:
    damaged = unreadable(tmp_path / "damaged")
    with pytest.raises(InputError, match="none of the 2 images of --unknown-images can be read"):
        calibrated(run_folder, images, unknown_images=[str(damaged)])
    write_images(damaged, {"Cat": 2})
    found = calibrated(run_folder, images, unknown_images=[str(damaged)])
    assert "2 images of --unknown-images; 2 more cannot be read" in "\n".join(lines_of(found))


def test_a_run_whose_calibration_was_not_written_to_its_end_is_calibrated_again(
    run_folder: Path, images: Path
) -> None:
    calibrated(run_folder, images)
    earlier = (run_folder / "certainty.json").read_bytes()
    calibrated(run_folder, images, score=MaxProbability())
    (run_folder / "certainty.json").write_bytes(earlier.replace(b"energy", b"max_probability"))
    with pytest.raises(ConfigurationError, match="certainty.npz beside it is of another"):
        ArchiveClassifier(run_folder, "cpu")
    calibrated(run_folder, images)
    assert ArchiveClassifier(run_folder, "cpu").certainty is not None


def test_a_run_is_not_calibrated_while_another_process_writes_to_it(
    run_folder: Path, images: Path
) -> None:
    folder = os.open(run_folder, os.O_RDONLY)
    assert lock(folder) is None
    with pytest.raises(ConfigurationError, match="another run is writing to"):
        calibrated(run_folder, images)
    assert not (run_folder / "certainty.json").exists()
    os.close(folder)
