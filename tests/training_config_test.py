"""
Every config in `training_config/` is built and sees a batch of images, without its data and without
downloading weights. A new file there is tested by being there.
"""

import inspect
import re
from pathlib import Path
from typing import Any, Iterator, Tuple

import numpy as np
import pytest
import torch
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Instance, Vocabulary
from allennlp.models import Model
from allennlp.training import Trainer

import allencv.plugin  # noqa: F401
from allencv.modules.pretrained_weights import without_pretrained_weights
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "training_config").glob("*.jsonnet"))
LABELS = ("ant", "bee", "cat")
# Those that `allennlp train` takes out before it builds a `TrainModel` of the rest.
TOP_LEVEL_KEYS = {
    *("random_seed", "numpy_seed", "pytorch_seed"),
    *("distributed", "evaluation", "include_in_archive"),
}

every_config = pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)


def external_variables(file: Path) -> "list[str]":
    return re.findall(r"std\.extVar\([\"'](\w+)[\"']\)", file.read_text())


def read(file: Path) -> Params:
    shared = (ROOT / "training_config").glob("lib/*")
    names = [name for source in (file, *shared) for name in external_variables(source)]
    return Params.from_file(file, ext_vars={name: f"/nowhere/{name}" for name in names})


class ThreeImages(DatasetReader):
    """What another reader makes of an ant, a bee and a cat, in place of its data."""

    def __init__(self, reader: DatasetReader) -> None:
        super().__init__()
        self.reader = reader

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for seed, label in enumerate(LABELS):
            pixels = np.random.default_rng(seed).integers(0, 256, (90, 120, 3), np.uint8)
            yield self.reader.text_to_instance(pixels, label)


def build_loaders(config: Params) -> Tuple[DataLoader, DataLoader]:
    """The loaders of training and validation, each with its own reader and its transforms."""
    reader = DatasetReader.from_params(config.pop("dataset_reader"))
    validation_reader = reader
    if "validation_dataset_reader" in config:
        validation_reader = DatasetReader.from_params(config.pop("validation_dataset_reader"))
    params = config.pop("data_loader")
    validation_params = config.pop("validation_data_loader", params.duplicate())
    params["drop_last"] = False  # three images fill no batch
    return (
        DataLoader.from_params(params, reader=ThreeImages(reader), data_path="train"),
        DataLoader.from_params(
            validation_params, reader=ThreeImages(validation_reader), data_path="validation"
        ),
    )


@every_config
def test_it_is_built_and_sees_a_batch(file: Path, tmp_path: Path) -> None:
    config = read(file)
    train, validation = build_loaders(config)
    namespace = config["model"].get("label_namespace", "labels")
    vocab = Vocabulary({namespace: dict.fromkeys(LABELS, 1)}, non_padded_namespaces=["*labels"])
    with without_pretrained_weights():
        model = Model.from_params(config.pop("model"), vocab=vocab)
    trainer_params = config.pop("trainer")
    trainer_params["cuda_device"] = -1
    trainer = Trainer.from_params(
        trainer_params,
        model=model,
        data_loader=train,
        validation_data_loader=validation,
        serialization_dir=str(tmp_path),
    )
    trained = [
        parameter for group in trainer.optimizer.param_groups for parameter in group["params"]
    ]
    assert trained
    unknown = config.params.keys() - inspect.signature(TrainModel.from_partial_objects).parameters
    assert unknown <= TOP_LEVEL_KEYS

    for loader in (train, validation):
        loader.index_with(vocab)
        (batch,) = loader
        assert batch["image"].shape[0] == len(LABELS)
    with torch.no_grad():
        outputs = model.eval()(**batch)
    # A row for each image; a column for each label, or more if the config says num_labels.
    rows, columns = outputs["probs"].shape
    assert rows == len(LABELS) <= columns
    assert outputs["loss"].isfinite()


@every_config
def test_its_header_says_how_it_is_run(file: Path) -> None:
    header = re.match(r"(//.*\n)+", file.read_text())
    assert header is not None
    assert re.search(rf"(allennlp|allencv) train training_config/{file.name} -s \w+", header[0])
    assert "// Hardware, time and score: " in header[0]
    for name in external_variables(file):
        assert f"{name}=" in header[0], "the command sets what the config asks for"
