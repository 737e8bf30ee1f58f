"""
Every config in `training_config/` is trained as its header says, for an epoch of a few small
images in folders like its data, without downloading weights. A new file there needs its data and
what makes its training short in `tests/recipes.py`.
"""

import json
import math
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model

from allencv.predictors import ImageClassifierPredictor
from tests.conftest import ROOT
from tests.recipes import (
    CONFIGS,
    DATA,
    QUICK,
    SMALL_IMAGES,
    external_variables,
    header,
    run_here,
    train_command,
)

pytestmark = pytest.mark.slow

every_config = pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)


@every_config
def test_it_trains_as_its_header_says(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = DATA[file.stem]
    write(tmp_path / folder)
    command = train_command(file)
    run_here(command, tmp_path, monkeypatch, **QUICK[file.stem], **SMALL_IMAGES[file.stem])

    run = tmp_path / shlex.split(command)[-1]
    metrics = json.loads((run / "metrics.json").read_text())
    assert math.isfinite(metrics["training_loss"])
    assert math.isfinite(metrics["best_validation_loss"])
    predictor = ImageClassifierPredictor.from_path(str(run / "model.tar.gz"))
    image = next((tmp_path / folder).rglob("*.jpg"))
    best = predictor.predict(str(image))["top_k"][0]
    labels = Vocabulary.from_files(str(run / "vocabulary")).get_token_to_index_vocabulary("labels")
    assert best["label"] in labels
    shutil.rmtree(run)  # some hundred megabytes


@every_config
def test_its_header_says_how_it_is_run(file: Path) -> None:
    command = train_command(file)
    assert f" train training_config/{file.name} -s " in command
    for name in external_variables(file):
        assert f"{name}=" in command, "the command sets what the config asks for"
    assert "\nHardware, time and score: " in header(file)


def test_weights_are_taken_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "resnet18.pth"
    published = torchvision.models.resnet18().state_dict()
    torch.save(published, file)
    for weights, equal in ((str(file), True), ("null", False)):
        config = Params.from_file(
            ROOT / "training_config" / "hymenoptera.jsonnet",
            ext_vars={"DATA": "data", "WEIGHTS": weights},
        )
        vocab = Vocabulary({"labels": {"ants": 1, "bees": 1}}, non_padded_namespaces=["labels"])
        model = Model.from_params(config["model"], vocab=vocab)
        first = model.state_dict()["_im2im_encoder.conv1.weight"]
        assert torch.equal(first, published["conv1.weight"]) == equal
