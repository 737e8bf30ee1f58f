"""The labels of a run that goes on with other images."""

import json
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.data import ImageDataLoader
from allencv.training import evaluate
from allencv.training.train_in_folder import train_in_folder
from tests.configs import experiment
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment


def accuracy(model: Model, reader: Any, data: Path) -> float:
    loader = ImageDataLoader(reader, data, batch_size=8)
    loader.index_with(model.vocab)
    return evaluate(model, loader)["accuracy"]


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """More cats than dogs, which makes cats the first label."""
    write_images(tmp_path / "train", {"cat": 8, "dog": 6})
    write_images(tmp_path / "val", {"cat": 3, "dog": 3})
    return tmp_path


def files_of(folder: Path) -> Dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def train(config: Dict[str, Any], folder: Path, recover: bool = False) -> Model:
    model = train_in_folder(Params(json.loads(json.dumps(config))), folder, recover=recover)
    assert model is not None
    return model


@pytest.mark.parametrize("namespace", ["labels", "animals"])
def test_labels_keep_their_order_when_images_are_added(animals: Path, namespace: str) -> None:
    config = experiment(
        animals,
        trainer__num_epochs=6,
        model__label_namespace=namespace,
        dataset_reader__label_namespace=namespace,
        validation_dataset_reader__label_namespace=namespace,
    )
    run = animals / "run"
    train(config, run)
    labels = run / "vocabulary" / f"{namespace}.txt"
    assert labels.read_text().split() == ["cat", "dog"]
    reader = load_archive(run / "model.tar.gz").validation_dataset_reader
    before = accuracy(load_archive(run / "model.tar.gz").model, reader, animals / "val")
    assert before == 1.0
    for number in range(5):
        image = animals / "train" / "dog" / f"{number:03d}.jpg"
        shutil.copy(image, image.with_name(f"more_{number}.jpg"))
    recovered = train(config, run, recover=True)
    assert labels.read_text().split() == ["cat", "dog"]
    for model in (recovered, load_archive(run / "model.tar.gz").model):
        assert accuracy(model, reader, animals / "val") == before


def test_several_labels_of_an_image_keep_their_order(animals: Path) -> None:
    images = sorted((animals / "train").rglob("*.jpg"))
    rows = [f"{path},{path.parent.name}" for path in images]
    dog = rows[-1]
    for split in ("train", "val"):
        (animals / f"{split}.csv").write_text("\n".join(["image,labels", *rows, ""]))
    config = multilabel_experiment(animals, trainer__num_epochs=1)
    train(config, animals / "run")
    (animals / "train.csv").write_text("\n".join(["image,labels", *rows, *[dog] * 9, ""]))
    (animals / "val.csv").write_text("\n".join(["image,labels", *rows, *[dog] * 9, ""]))
    model = train(config, animals / "run", recover=True)
    assert model.vocab.get_index_to_token_vocabulary("labels") == {0: "cat", 1: "dog"}
    before = files_of(animals / "run")
    (animals / "train.csv").write_text("\n".join(["image,labels", *rows[:-1], f"{dog}|wet", ""]))
    with pytest.raises(ConfigurationError, match="has the new labels wet, but the run has cat, d"):
        train(config, animals / "run", recover=True)
    assert files_of(animals / "run") == before


def test_other_labels_are_refused_and_nothing_is_written(animals: Path) -> None:
    config, run = experiment(animals, trainer__num_epochs=1), animals / "run"
    train(config, run)
    before = files_of(run)
    message = "train_data_path has the new labels eel and no longer has the labels dog, but the run"
    for split in ("train", "val"):
        (animals / split / "dog").rename(animals / split / "eel")
    with pytest.raises(ConfigurationError, match=message):
        train(config, run, recover=True)
    assert files_of(run) == before
    for split in ("train", "val"):
        shutil.rmtree(animals / split / "eel")
    with pytest.raises(ConfigurationError, match="train_data_path no longer has the labels dog"):
        train(config, run, recover=True)
    assert files_of(run) == before
    load_archive(run)  # it can still be opened
    (run / "vocabulary" / "non_padded_namespaces.txt").unlink()
    with pytest.raises(
        ConfigurationError, match="has a checkpoint, but no vocabulary with its labels"
    ):
        train(config, run, recover=True)


def test_labels_that_only_the_first_model_knows_need_no_images(animals: Path) -> None:
    config, run = experiment(animals, trainer__num_epochs=1), animals / "run"
    train(config, animals / "first")
    for split in ("train", "val"):
        shutil.rmtree(animals / split / "cat")
    config["model"]["start_from"] = {"archive_file": str(animals / "first" / "model.tar.gz")}
    train(config, run)
    config["trainer"]["num_epochs"] = 2
    model = train(config, run, recover=True)
    assert model.vocab.get_index_to_token_vocabulary("labels") == {0: "dog", 1: "cat"}
