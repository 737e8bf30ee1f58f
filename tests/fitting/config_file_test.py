import json
from pathlib import Path
from typing import Any

import pytest
import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.training.optimizers import Optimizer

import allencv.plugin  # noqa: F401
from allencv.catalogue import find_mistakes
from allencv.fitting import (
    FitOptions,
    TableColumns,
    as_config,
    choose,
    comments_on,
    examine_data,
    find_data,
    with_header,
)
from tests.conftest import write_images


def written(data: Path, file: Path, **options: Any) -> str:
    """The text, once it is seen that it is the config."""
    found = find_data(str(data), TableColumns())
    facts = examine_data(found)
    choices = choose(facts, FitOptions(weights="none", **options))
    config = as_config(found, facts, choices)
    text = with_header(config, comments_on(facts, choices), "Written by: the test\n\n  a command")
    file.write_text(text, encoding="utf-8")
    assert Params.from_file(file).as_dict() == json.loads(json.dumps(config))
    return text


def test_it_is_jsonnet_with_the_reasons(cats_and_dogs: Path, tmp_path: Path) -> None:
    text = written(cats_and_dogs, tmp_path / "config.jsonnet")
    assert text.startswith("// Written by: the test\n//\n//   a command\n{\n")
    assert "// 24 images to train on: Cat 12, Dog 12." in text
    assert "  evaluate_on_test: true,\n" in text
    assert max(map(len, text.splitlines())) <= 100 + len(str(cats_and_dogs))


def test_labels_and_paths_with_all_kinds_of_characters(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" \\ folder, süß'
    write_images(folder, {"ä ö": 6, "local": 6, "//": 6})
    text = written(folder, tmp_path / "config.jsonnet")
    assert "süß" in text


def test_several_labels(tmp_path: Path) -> None:
    write_images(tmp_path, {"images": 12})
    rows = [f"{i:03d},{i % 2},{i // 2 % 2}" for i in range(12)]
    (tmp_path / "metadata.csv").write_text("\n".join(["Id,Action,Drama", *rows]))
    written(tmp_path, tmp_path / "config.jsonnet")
    config = Params.from_file(tmp_path / "config.jsonnet").as_dict()
    assert config["model"]["type"] == "multilabel_image_classifier"
    assert config["trainer"]["validation_metric"] == "+mAP"


def test_unequal_classes(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 20, "b": 4})
    text = written(tmp_path, tmp_path / "config.jsonnet")
    assert "// the largest class has 5.3 times the images of the smallest" in text
    config = Params.from_file(tmp_path / "config.jsonnet").as_dict()
    assert config["trainer"]["validation_metric"] == "+balanced_accuracy"
    # Smoothing gives each image a share of the rare class, which weights would multiply.
    assert "class_weights" in config["model"]
    assert "loss" not in config["model"]


def test_images_that_cannot_be_read(cats_and_dogs: Path, tmp_path: Path) -> None:
    for on_error in ("skip", "fail"):
        written(cats_and_dogs, tmp_path / "config.jsonnet", on_error=on_error)
        config = Params.from_file(tmp_path / "config.jsonnet").as_dict()
        for key in ("data_loader", "validation_data_loader"):
            assert config[key].get("on_error") == ("skip" if on_error == "skip" else None)


@pytest.mark.parametrize(("epochs", "ratio"), [(1, 0.2), (3, 0.2), (5, 0.2), (20, 0.05)])
def test_the_warmup_is_shorter_than_training(
    epochs: int, ratio: float, cats_and_dogs: Path, tmp_path: Path
) -> None:
    """At most an epoch; and with any other number of epochs, the same share of training."""
    written(cats_and_dogs, tmp_path / "config.jsonnet", epochs=epochs)
    for num_epochs in (epochs, 1):
        overrides = json.dumps({"trainer.num_epochs": num_epochs})
        params = Params.from_file(tmp_path / "config.jsonnet", overrides)
        schedule = params["trainer"]["learning_rate_scheduler"].as_dict()
        assert schedule == {"type": "warmup_cosine", "warmup_ratio": ratio}
        assert find_mistakes(params.as_dict()) == []


def test_early_stopping(cats_and_dogs: Path, tmp_path: Path) -> None:
    text = written(cats_and_dogs, tmp_path / "config.jsonnet")
    assert "// stops after 33 epochs without progress: a third of training, as" in text
    assert "\n    patience: 33,\n" in text
    text = written(cats_and_dogs, tmp_path / "config.jsonnet", epochs=100)
    assert "patience" not in text


@pytest.mark.parametrize("backbone", ["conv_groups", "small_resnet"])
def test_small_networks_are_trained_by_muon(
    backbone: str, cats_and_dogs: Path, tmp_path: Path
) -> None:
    written(cats_and_dogs, tmp_path / "config.jsonnet", backbone=backbone)
    config = Params.from_file(tmp_path / "config.jsonnet").as_dict()
    assert find_mistakes(config) == []
    assert config["trainer"]["optimizer"]["type"] == "muon"
    assert config["dataset_reader"]["transforms"][0]["scale"] == [0.5, 1.0]
    channels = config["model"]["im2vec_encoder"]["input_channels"]
    params = Params({**config["model"], "num_labels": 2})
    model = Model.from_params(params, vocab=Vocabulary()).eval()
    trained = Optimizer.from_params(
        Params(config["trainer"]["optimizer"]),
        model_parameters=list(model.named_parameters()),
        model=model,
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_adamw = [
        names[id(each)]
        for group in trained.param_groups
        if group.get("use_fallback")
        for each in group["params"]
    ]
    assert set(by_adamw) == {"_classification_layer.weight", "_classification_layer.bias"}
    features = model._im2im_encoder(torch.zeros(1, 3, 64, 64))
    assert features.shape[1] == channels


@pytest.mark.parametrize("backbone", ["conv_groups", "mobilenet_v3_small", "resnet18"])
def test_fine_tuning_takes_smaller_steps_near_the_input(
    backbone: str, cats_and_dogs: Path, tmp_path: Path
) -> None:
    text = written(cats_and_dogs, tmp_path / "config.jsonnet", backbone=backbone)
    assert "layer_decay" not in text  # these start from random weights
