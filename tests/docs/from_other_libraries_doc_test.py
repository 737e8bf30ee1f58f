"""
The last column of the tables in docs/from_other_libraries.md: each key with its value is put into
the page's config, in which there is then no mistake, and each command has the options that are
printed. Many of them together are trained with, and with `-m exhaustive` each by itself. The page's
commands are run.
"""

import copy
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any, Dict, List

import _jsonnet  # type: ignore[import-untyped]
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.params import with_overrides

import allencv.plugin  # noqa: F401
from allencv.catalogue import find_mistakes
from allencv.command_parsers import command_parser
from tests.conftest import ROOT, write_images
from tests.recipes import run_here

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "from_other_libraries.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


TRAIN, CHECK = blocks("bash")
(CONFIG,) = blocks("jsonnet")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| timm ")
]
NETWORK = {
    "model.im2im_encoder.model_name": "test_resnet",
    "model.im2vec_encoder.input_channels": 96,
}
"""A network of timm's for its own tests."""
SMALL = {
    **NETWORK,
    "dataset_reader.transforms.0.size": 32,
    "validation_dataset_reader.transforms.0.size": 32,
    "trainer.num_epochs": 1,
    "trainer.learning_rate_scheduler.warmup_epochs": 0.5,
}


@cache
def as_json(jsonnet: str) -> str:
    return str(_jsonnet.evaluate_snippet("page", jsonnet))


def evaluate(jsonnet: str) -> Any:
    return json.loads(as_json(jsonnet))


def overrides(cell: str, config: Dict[str, Any]) -> Dict[str, Any]:
    """The keys and values of a cell. `[..., x]` is `x` after what the config has there."""
    found = {}
    for key, value in re.findall(r"`([a-z][\w.]*): (.+?)`", cell):
        if value.startswith("[..., "):
            before = config
            for name in key.split("."):
                before = before[name]
            found[key] = [*copy.deepcopy(before), *evaluate(value.replace("..., ", "", 1))]
        else:
            found[key] = evaluate(value)
    return found


def changed(config: Dict[str, Any], cell: str) -> Dict[str, Any]:
    return dict(with_overrides(config, overrides(cell, config)))


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "jsonnet"}
    assert len(ROWS) > 80
    assert {len(cells) for cells in ROWS} == {4}


@pytest.mark.parametrize("cells", ROWS, ids=lambda cells: " ".join(cells[:3])[:50])
def test_what_is_said_is_accepted_here(cells: List[str]) -> None:
    here = cells[-1]
    config = evaluate(CONFIG)
    commands = re.findall(r"`(allencv .+?)`", here)
    values = overrides(here, config)
    assert any(cells[:3])
    assert bool(values or commands) != here.startswith("None")
    config = changed(config, here)
    if "im2im_encoder: {" not in here:  # a small network is quicker to build
        config = with_overrides(config, NETWORK)
    mistakes = find_mistakes(config)
    assert mistakes == [], [mistake.message for mistake in mistakes]
    assert all(map(can_be_typed, commands))


def can_be_typed(command: str) -> bool:
    """Whether its parser takes it; it exits with an error if not."""
    program, name, *words = shlex.split(command)
    return program == "allencv" and bool(command_parser(name).parse_args(words))


def test_the_config_has_no_mistake() -> None:
    assert find_mistakes(evaluate(CONFIG)) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed, split in enumerate(("train", "val")):
        write_images(folder / "photos" / split, {"cat": 8, "dog": 8}, seed=seed)
    (folder / "photos.jsonnet").write_text(CONFIG)
    return folder


def test_the_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run_here(CHECK, folder, monkeypatch)
    assert capsys.readouterr().out.splitlines()[-1] == "photos.jsonnet: no mistakes"
    run_here(TRAIN, folder, monkeypatch, **SMALL, **{"data_loader.batch_size": 8})
    assert (folder / "runs" / "photos" / "model.tar.gz").exists()


TOGETHER = [
    "-vb 128",
    "--aug-repeats 3",
    "--channels-last",
    "--opt sgd",
    "--lr 0.2",
    "--weight-decay 2e-5",
    "always",
    "--layer-decay 0.7",
    "--clip-grad 1",
    "--grad-accum-steps 4",
    "--min-lr 0.001",
    "--scale 0.35 1 --ratio 0.8 1.25",
    "--train-interpolation bicubic",
    "--reprob 0.25",
    "--mixup 0.8 --cutmix 1",
    "--crop-pct 0.95",
    "--bce-loss --bce-target-thresh 0.2",
    "--drop 0.2",
    "--drop-path 0.1",
    "--model-ema --model-ema-decay 0.9998",
    "--checkpoint-hist 10",
    "--seed 42",
    "--tta 2",
]
"""Flags of timm's that go together, as in a long training."""


def test_many_of_them_train_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = evaluate(CONFIG)
    for flag in TOGETHER:
        here, *_ = [cells[-1] for cells in ROWS if cells[0].strip("`") == flag]
        config = changed(config, here)
    assert find_mistakes(config) == []
    config = with_overrides(config, {**SMALL, "data_loader.batch_size": 4})
    (folder / "together.json").write_text(json.dumps(config))
    run_here("allencv train together.json -s runs/together", folder, monkeypatch)
    metrics = json.loads((folder / "runs" / "together" / "metrics.json").read_text())
    assert 0 <= metrics["best_validation_accuracy"] <= 1


NOT_HERE = (
    *("_data_path", "dataset_reader: {", "weights", "pretrained"),  # other files
    *("teacher", "archive"),  # other models
    *("cuda_devices", "float16", "wandb", "compile", "allencv "),  # a GPU, a service, minutes
)
TRAINED = [
    cells
    for cells in ROWS
    if not cells[-1].startswith("None") and not any(word in cells[-1] for word in NOT_HERE)
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("cells", TRAINED, ids=lambda cells: " ".join(cells[:3])[:50])
def test_each_of_them_trains(
    cells: List[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    config = changed(evaluate(CONFIG), cells[-1])
    schedule = config["trainer"]["learning_rate_scheduler"]
    shorter = {"warmup_epochs": 0.5, "step_size": 1, "milestones": [1], "num_epochs": 1}
    schedule.update({key: value for key, value in shorter.items() if key in schedule})
    if "top_k" in config["model"]:
        config["model"]["top_k"] = 2
    small = {key: value for key, value in SMALL.items() if "scheduler" not in key}
    config = with_overrides(
        config, {**small, "trainer.num_epochs": 2, "data_loader.batch_size": 12}
    )
    train_model(Params(config), tmp_path / "run")
    assert (tmp_path / "run" / "model.tar.gz").exists()
