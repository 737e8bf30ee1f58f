"""The example of every part of ours builds the part."""

import json
from pathlib import Path
from typing import Any, Dict, List

import _jsonnet
import pytest
import torch
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.nn.parallel import DdpAccelerator
from allennlp.predictors import Predictor
from allennlp.training import Checkpointer, TrainerCallback
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.moving_average import MovingAverage
from allennlp.training.optimizers import Optimizer
from allennlp.training.trainer import Trainer

import allencv.plugin  # noqa: F401
from allencv.catalogue import find_mistakes, part_named, parts_of, registries_that_matter, snippet
from allencv.catalogue.examples import example_config
from allencv.catalogue.parts import Part, describe
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from allencv.modules.pretrained_weights import without_pretrained_weights
from tests.configs import experiment

READ_FROM_FILES = ("from_archive", "extend", "from_files")
"""Parts that are read from a file, which an example cannot bring."""
PARTS = [
    part
    for registry in registries_that_matter()
    for part in parts_of(registry)
    if part.cls.__module__.startswith("allencv.") and part.name not in READ_FROM_FILES
]
VOCAB = Vocabulary({"labels": {"cat": 1, "dog": 1}}, non_padded_namespaces=["labels"])


def evaluated(text: str) -> Any:
    return json.loads(_jsonnet.evaluate_snippet("example", text))


@pytest.fixture(scope="module")
def examples() -> List[Any]:
    """The examples of `PARTS`, evaluated at once: each time takes long."""
    whole: List[Any] = evaluated(f"[{', '.join(map(snippet, PARTS))}]")
    return whole


def supplied(registry: type, folder: Path) -> Dict[str, Any]:
    """What training supplies to a part."""
    parameters = [("weight", torch.nn.Parameter(torch.zeros(2, 2)))]
    if registry is Optimizer:
        return {"model_parameters": parameters}
    if registry is MovingAverage:
        return {"parameters": parameters}
    if registry is LearningRateScheduler:
        optimizer = Optimizer.from_params(
            Params({"type": "sgd", "lr": 0.1}), model_parameters=parameters
        )
        return {"optimizer": optimizer, "num_epochs": 100, "num_steps_per_epoch": 5}
    if registry is DdpAccelerator:
        return {"local_rank": 0, "world_size": 1}
    if registry in (TrainerCallback, Checkpointer):
        (folder / "config.json").write_text("{}")  # as training leaves it
        return {"serialization_dir": str(folder)}
    if registry is Model:
        return {"vocab": VOCAB}
    if registry is Vocabulary:
        return {"instances": []}
    return {}


@pytest.mark.parametrize(
    ("index", "part"),
    enumerate(PARTS),
    ids=[f"{part.registry.__name__}-{part.name}" for part in PARTS],  # type: ignore[union-attr]
)
def test_the_example_builds_its_part(
    index: int,
    part: Part,
    examples: List[Any],
    tmp_path: Path,
    cats_and_dogs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert part.registry is not None
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)  # asked for when its callback is made
    config = examples[index]
    assert config["type"] in {each.name for each in parts_of(part.registry) if each.cls is part.cls}
    extras = supplied(part.registry, tmp_path)
    if part.registry in (DataLoader, Trainer, Predictor):
        whole = experiment(cats_and_dogs)
        reader = DatasetReader.from_params(Params(whole["dataset_reader"]))
        model = Model.from_params(Params(whole["model"]), vocab=VOCAB)
        loader = DataLoader.from_params(
            Params(whole["data_loader"]), reader=reader, data_path=whole["train_data_path"]
        )
        extras = {
            DataLoader: {"reader": reader, "data_path": whole["train_data_path"]},
            Trainer: {"model": model, "data_loader": loader, "serialization_dir": str(tmp_path)},
            Predictor: {"model": model, "dataset_reader": reader},
        }[part.registry]
    with without_pretrained_weights():
        built = part.registry.from_params(Params(config), **extras)  # type: ignore[attr-defined]
    assert type(built) is part.cls


def test_examples_have_what_is_required_and_no_more() -> None:
    assert evaluated(snippet(part_named(Im2ImEncoder, "timm"))) == {
        "type": "timm",
        "model_name": "convnext_tiny",
    }


def test_an_encoder_of_images_takes_colours_and_a_vector_encoder_features() -> None:
    class Encoder(Im2ImEncoder):
        def __init__(self, input_channels: int) -> None: ...

    assert example_config(describe(Encoder)) == {"input_channels": 3}
    pooling = part_named(Im2VecEncoder, "pooling")
    assert example_config(pooling) == {"type": "pooling", "input_channels": 512}


def test_the_example_of_a_docstring() -> None:
    config = evaluated(snippet(part_named(Model, "basic_image_classifier")))
    assert config["im2im_encoder"]["resnet_model"] == "resnet50"
    whole = {**experiment(Path("data")), "model": config}
    assert find_mistakes(whole) == []
