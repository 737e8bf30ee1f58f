"""The commands of `allennlp`, in a folder with `.allennlp_plugins`, as in a clone."""

import json
import math
import os
import struct
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, log_loss
from tensorboardX.proto.event_pb2 import Event

from tests.commands.conftest import Clone
from tests.conftest import Run

LABELS = ["Cat", "Dog"]


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
    training, validation = scalars(finished / "log" / "train"), scalars(finished / "log" / "validation")
    steps = 5 * 6  # 24 images in batches of 2, of which 2 are accumulated
    assert len(training["train_loss"]) == steps
    epochs = [json.loads((finished / f"metrics_epoch_{e}.json").read_text()) for e in range(5)]
    for values, key in ((training, "training_loss"), (validation, "validation_loss")):
        assert values[key] == pytest.approx([epoch[key] for epoch in epochs])


@pytest.fixture(scope="module")
def predictions(
    cats_and_dogs: Path, clone: Clone, finished: Path, run: Run, tmp_path_factory: Any
) -> List[Dict[str, Any]]:
    """`predict` on JSON lines: the validation images, and in between one that is none."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not an image")
    paths = sorted(cats_and_dogs.glob("val/*/*"))
    paths.insert(5, folder / "broken.jpg")
    lines = [json.dumps({"image": str(path)}) + "\n" for path in paths]
    (folder / "images.jsonl").write_text("".join(lines))
    run(
        *("allennlp", "predict", finished / "model.tar.gz", folder / "images.jsonl"),
        *("--output-file", folder / "answers.jsonl", "--silent", "--batch-size", 4),
        cwd=clone.folder,
    )
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def test_predict_answers_each_line_whatever_is_in_the_others(
    predictions: List[Dict[str, Any]], cats_and_dogs: Path
) -> None:
    broken = predictions[5]
    assert set(broken) == {"error", "metadata"}
    assert "broken.jpg: not an image" in broken["error"]
    answered = predictions[:5] + predictions[6:]
    assert [answer["metadata"]["image"] for answer in answered] == [
        str(path) for path in sorted(cats_and_dogs.glob("val/*/*"))
    ]
    for answer in answered:
        assert answer["top_k"][0]["label"] == answer["label"]
        assert answer["top_k"][0]["probability"] == max(answer["probs"])


def test_evaluate_reports_what_scikit_learn_computes_from_the_predictions(
    predictions: List[Dict[str, Any]],
    cats_and_dogs: Path,
    clone: Clone,
    finished: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    run(
        *("allennlp", "evaluate", finished / "model.tar.gz", cats_and_dogs / "val"),
        *("--output-file", tmp_path / "metrics.json"),
        *("--predictions-output-file", tmp_path / "predictions.jsonl"),
        cwd=clone.folder,
        env=clone.env,
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    answered = predictions[:5] + predictions[6:]
    gold = [Path(answer["metadata"]["image"]).parent.name for answer in answered]
    predicted = [answer["label"] for answer in answered]
    # The probabilities of the predictions stand in the order of the vocabulary.
    labels = (finished / "vocabulary" / "labels.txt").read_text().split()
    probs = [[answer["probs"][labels.index(label)] for label in LABELS] for answer in answered]
    assert metrics["accuracy"] == accuracy_score(gold, predicted)
    assert metrics["loss"] == pytest.approx(log_loss(gold, probs, labels=LABELS), abs=1e-5)

    by_batch = [json.loads(line) for line in (tmp_path / "predictions.jsonl").open()]
    by_image = {
        metadata["image"]: label
        for batch in by_batch
        for metadata, label in zip(batch["metadata"], batch["label"])
    }
    assert by_image == {
        answer["metadata"]["image"]: answer["label"] for answer in answered
    }


def test_predict_reads_a_folder_as_validation_does(
    predictions: List[Dict[str, Any]],
    cats_and_dogs: Path,
    clone: Clone,
    finished: Path,
    run: Run,
    tmp_path: Path,
) -> None:
    (tmp_path / "val" / "Cat").mkdir(parents=True)
    (tmp_path / "val" / "Dog").symlink_to(cats_and_dogs / "val" / "Dog")
    (tmp_path / "val" / "Cat" / "broken.jpg").write_bytes(b"\xff\xd8 not an image")
    result = run(
        *("allennlp", "predict", finished / "model.tar.gz", tmp_path / "val"),
        *("--use-dataset-reader", "--output-file", tmp_path / "answers.jsonl"),
        cwd=clone.folder,
    )
    assert result.stdout.count("prediction: ") == 6
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").open()]
    assert "broken.jpg: not an image" in answers[0]["error"]
    for answer, of_json in zip(answers[1:], predictions[6:], strict=True):
        name = Path(of_json["metadata"]["image"]).name
        assert answer["metadata"]["image"] == str(tmp_path / "val" / "Dog" / name)
        assert answer["probs"] == pytest.approx(of_json["probs"], abs=1e-6)


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
    result = run(
        *("allennlp", "train", clone.folder / clone.config, *included),
        *("--dry-run", "-s", tmp_path / "run"),
        cwd=tmp_path / "empty",
        env=clone.env,
    )
    assert "Vocabulary" in result.stdout
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
    run("allennlp", "build-vocab", clone.config, tmp_path / "v.tar.gz", cwd=clone.folder, env=clone.env)
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
