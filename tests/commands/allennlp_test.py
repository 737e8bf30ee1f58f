"""The commands of `allennlp`, in a folder with `.allennlp_plugins`, as in a clone."""

import json
import math
import os
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from tensorboardX.proto.event_pb2 import Event

from tests.commands.conftest import Clone
from tests.conftest import Run

pytestmark = pytest.mark.slow

LABELS = ["Cat", "Dog"]
BROKEN = b"\xff\xd8 begins as a JPEG does"


def read_lines(file: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def scalars(folder: Path) -> Dict[str, List[float]]:
    """The scalars that TensorBoard shows for a folder, by name, in the order of writing."""
    values: Dict[str, List[float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        data = file.read_bytes()
        while data:
            # A record: its length, a checksum of that, the event, a checksum of that.
            (length,) = struct.unpack_from("<Q", data)
            event = Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]
            for value in event.summary.value:
                values.setdefault(value.tag, []).append(value.simple_value)
    return values


def test_train_writes_what_it_promises(finished: Path) -> None:
    config = json.loads((finished / "config.json").read_text())
    assert config["trainer"]["num_epochs"] == 5  # as overridden on the command line
    assert config["trainer"]["optimizer"] == {"type": "adamw", "lr": 0.02}
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["epoch"] == 4
    assert metrics["best_validation_loss"] < math.log(2)  # what a guess would get
    assert metrics["best_validation_accuracy"] > 0.5
    with tarfile.open(finished / "model.tar.gz") as archive:
        members = {"config.json", "weights.th", "meta.json", "vocabulary/labels.txt"}
        assert members <= set(archive.getnames())
    assert sorted((finished / "vocabulary" / "labels.txt").read_text().split()) == LABELS


def test_tensorboard_shows_the_losses(finished: Path) -> None:
    shown = scalars(finished / "log" / "train") | scalars(finished / "log" / "validation")
    # 5 epochs of 24 images in batches of 2, of which 2 are accumulated to a step
    assert len(shown["train/batch_loss"]) == 5 * 6
    epochs = [json.loads((finished / f"metrics_epoch_{e}.json").read_text()) for e in range(5)]
    for tag, key in (("train/loss", "training_loss"), ("validation/loss", "validation_loss")):
        assert shown[tag] == pytest.approx([epoch[key] for epoch in epochs])


@pytest.fixture(scope="module")
def photos(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation images, but with a dog among the cats: no model gets all of them right."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copytree(cats_and_dogs / "val", folder, dirs_exist_ok=True)
    (folder / "Dog" / "003.jpg").rename(folder / "Cat" / "dog.jpg")
    return folder


Answers = List[Dict[str, Any]]


@pytest.fixture(scope="module")
def answers(
    photos: Path, clone: Clone, finished: Path, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> Answers:
    """Of `predict` to JSON lines: all photos, and in between, at 5, one that cannot be read."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "broken.jpg").write_bytes(BROKEN)
    paths = sorted(photos.glob("*/*"))
    paths.insert(5, folder / "broken.jpg")
    lines = [json.dumps({"image": str(path)}) for path in paths]
    (folder / "images.jsonl").write_text("\n".join(lines))
    run(
        *("allennlp", "predict", finished / "model.tar.gz", folder / "images.jsonl"),
        *("--output-file", folder / "answers.jsonl", "--silent", "--batch-size", 4),
        cwd=clone.folder,
    )
    return read_lines(folder / "answers.jsonl")


def test_predict_answers_every_line(answers: Answers, photos: Path) -> None:
    broken = answers[5]
    assert broken.keys() == {"error", "metadata"}
    assert "broken.jpg: not an image" in broken["error"]
    answered = answers[:5] + answers[6:]
    paths = sorted(photos.glob("*/*"))
    assert [answer["metadata"]["image"] for answer in answered] == [str(path) for path in paths]
    for answer in answered:
        assert answer["top_k"][0] == {"label": answer["label"], "probability": max(answer["probs"])}


def test_evaluate_reports_what_scikit_learn_computes_from_the_answers(
    answers: Answers, photos: Path, clone: Clone, finished: Path, run: Run, tmp_path: Path
) -> None:
    run(
        *("allennlp", "evaluate", finished / "model.tar.gz", photos),
        *("--output-file", tmp_path / "metrics.json"),
        *("--predictions-output-file", tmp_path / "predictions.jsonl"),
        cwd=clone.folder,
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    answered = answers[:5] + answers[6:]
    gold = [Path(answer["metadata"]["image"]).parent.name for answer in answered]
    predicted = [answer["label"] for answer in answered]
    assert metrics["accuracy"] == accuracy_score(gold, predicted)
    assert 0 < metrics["accuracy"] < 1
    # Probabilities stand in the order of the vocabulary, which is that of the file.
    columns = (finished / "vocabulary" / "labels.txt").read_text().split()
    probs = np.array([answer["probs"] for answer in answered], dtype=np.float32)
    loss = log_loss(gold, probs[:, [columns.index(label) for label in LABELS]], labels=LABELS)
    assert metrics["loss"] == pytest.approx(loss, abs=1e-5)

    labels = {}
    for batch in read_lines(tmp_path / "predictions.jsonl"):
        images = [metadata["image"] for metadata in batch["metadata"]]
        labels.update(zip(images, batch["label"], strict=True))
    assert labels == {answer["metadata"]["image"]: answer["label"] for answer in answered}


def test_predict_reads_a_folder_as_validation_does(
    answers: Answers, photos: Path, clone: Clone, finished: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "Cat" / "0.jpg").write_bytes(BROKEN)
    result = run(
        *("allennlp", "predict", finished / "model.tar.gz", tmp_path / "photos"),
        *("--use-dataset-reader", "--output-file", tmp_path / "answers.jsonl"),
        cwd=clone.folder,
    )
    first, *others = read_lines(tmp_path / "answers.jsonl")
    assert "0.jpg: not an image" in first["error"]
    assert result.stdout.count("prediction: ") == 1 + len(others)
    for other, answer in zip(others, answers[:5] + answers[6:], strict=True):
        image = Path(answer["metadata"]["image"]).relative_to(photos)
        assert other["metadata"]["image"] == str(tmp_path / "photos" / image)
        assert other["probs"] == pytest.approx(answer["probs"], abs=1e-6)


TUTORIALS_PACKAGES = [
    "allencv.data.dataset_readers",
    "allencv.modules.im2im_encoders",
    "allencv.models.basic_classifier",
    "allencv.modules.im2vec_encoders",
]


def test_a_dry_run_builds_all_with_the_tutorials_packages(
    clone: Clone, run: Run, tmp_path: Path
) -> None:
    """In an empty folder. The config also names the "image" data loader and trainer."""
    (tmp_path / "empty").mkdir()
    included = [word for name in TUTORIALS_PACKAGES for word in ("--include-package", name)]
    run(
        *("allennlp", "train", clone.folder / clone.config, *included),
        *("--dry-run", "-s", tmp_path / "run"),
        cwd=tmp_path / "empty",
        env=clone.env,
    )
    assert (tmp_path / "run" / "vocabulary" / "labels.txt").is_file()
    assert not list((tmp_path / "run").glob("*.th"))


def test_without_the_plugin_allennlp_asks_for_the_package(
    clone: Clone, run: Run, tmp_path: Path
) -> None:
    """So what the other tests find is found through `.allennlp_plugins` or `--include-package`."""
    result = run(
        *("allennlp", "count-instances", clone.folder / clone.config),
        cwd=tmp_path,
        env=clone.env,
        fails=True,
    )
    assert "image_folder not in acceptable choices for dataset_reader.type" in result.stderr


def test_find_lr_draws_its_curve(clone: Clone, run: Run, tmp_path: Path) -> None:
    """AllenNLP's takes no trainer but its own, which takes no mixed precision on a CPU."""
    overrides = {"trainer.type": "gradient_descent", "trainer.use_amp": False}
    run(
        *("allennlp", "find-lr", clone.config, "-s", tmp_path / "lr"),
        *("--num-batches", 20, "-o", json.dumps(overrides)),
        cwd=clone.folder,
        env=clone.env,
    )
    with Image.open(tmp_path / "lr" / "lr-losses.png") as plot:
        assert min(plot.size) > 100


def test_build_vocab_packs_the_labels(clone: Clone, run: Run, tmp_path: Path) -> None:
    run(
        "allennlp",
        "build-vocab",
        clone.config,
        tmp_path / "v.tar.gz",
        cwd=clone.folder,
        env=clone.env,
    )
    with tarfile.open(tmp_path / "v.tar.gz") as archive:
        labels = archive.extractfile("labels.txt")
        assert labels is not None
        assert sorted(labels.read().decode().split()) == LABELS


def test_count_instances_counts_the_training_images(clone: Clone, run: Run) -> None:
    result = run("allennlp", "count-instances", clone.config, cwd=clone.folder, env=clone.env)
    assert "One epoch of training contains 24 instances." in result.stdout


def test_print_results_finds_the_run(clone: Clone, finished: Path, run: Run) -> None:
    keys = ["epoch", "best_validation_accuracy"]
    result = run("allennlp", "print-results", "runs", "-k", *keys, cwd=clone.folder)
    accuracy = json.loads((finished / "metrics.json").read_text())["best_validation_accuracy"]
    assert result.stdout.splitlines() == [
        "model_run, epoch, best_validation_accuracy",
        f"{os.path.join('runs', 'finished', 'metrics.json')}, 4, {accuracy}",
    ]
