"""The commands and the code of docs/fine_tuning.md, run as they are printed."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
import torchvision
from allennlp.common import Params
from allennlp.nn.parallel import DdpAccelerator
from allennlp.training import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.command_parsers import command_parser
from allencv.experiments.search_space import RANGES, search_space
from allencv.training.callbacks import FineTuning
from tests.configs import experiment
from tests.conftest import ROOT, Run, write_images
from tests.recipes import images_of
from tests.training.callbacks.interruption import train

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


CONFIG, *FRAGMENTS = blocks("jsonnet")
TRAIN, MORE, BIRDS, SEEDS, FOLDS, PARALLEL, TUNE = blocks("bash")
SMALL_IMAGES = images_of(64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    for seed, split in enumerate(("train", "val")):
        write_images(folder / "pets" / split, {"cat": 4, "dog": 4}, seed=seed)
    (folder / "pets.jsonnet").write_text(CONFIG)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pth")
    return folder


def overrides(folder: Path, **others: Any) -> str:
    """Weights from a file in place of a download, small images, and few epochs."""
    weights = {"model.im2im_encoder.weights": str(folder / "resnet18.pth")}
    return json.dumps({**weights, **SMALL_IMAGES, "data_loader.batch_size": 4, **others})


def test_every_language_is_tested() -> None:
    languages = set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE))
    assert languages == {"jsonnet", "bash", "python", "text"}


def test_every_name_is_registered() -> None:
    names = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert len(names) == 4
    assert all(issubclass(TrainerCallback.by_name(name), FineTuning) for name in names)


def test_training(folder: Path, run: Run) -> None:
    command = [*shlex.split(TRAIN), "-o", overrides(folder, **{"trainer.num_epochs": 3})]
    run(*command, cwd=folder)
    states = [torch.load(folder / f"runs/pets/model_state_e{epoch}_b0.th") for epoch in (2, 3)]
    pretrained = torch.load(folder / "resnet18.pth")
    name = "layer1.0.conv1.weight"
    assert states[0][f"_im2im_encoder.{name}"].equal(pretrained[name])
    assert not states[1][f"_im2im_encoder.{name}"].equal(pretrained[name])


def test_going_on(folder: Path, run: Run) -> None:
    """The first model is here one of a single epoch."""
    few = {**SMALL_IMAGES, "trainer.num_epochs": 1, "data_loader.batch_size": 4}
    if not (folder / "runs/pets/model.tar.gz").exists():
        run(*shlex.split(TRAIN), "-o", overrides(folder, **few), cwd=folder)
    for seed, split in enumerate(("train", "val")):
        write_images(folder / "birds" / split, {"owl": 3, "tit": 3, "wren": 2}, seed=seed)
    for command, labels in ((MORE, {"cat", "dog"}), (BIRDS, {"owl", "tit", "wren"})):
        *begin, given = shlex.split(command)
        result = run(*begin, json.dumps({**json.loads(given), **few}), cwd=folder)
        head = "kept" if command == MORE else "made anew"
        assert f"the last layer is {head}, for the labels " in result.stdout
        output = folder / begin[begin.index("-s") + 1]
        assert set((output / "vocabulary/labels.txt").read_text().split()) == labels
        config = json.loads((output / "config.json").read_text())
        assert config["model"]["type"] == "basic_image_classifier"


@pytest.mark.parametrize("text", FRAGMENTS)
def test_a_part_of_a_trainer(text: str, cats_and_dogs: Path, tmp_path: Path) -> None:
    (tmp_path / "trainer.jsonnet").write_text(f"{{ {text} }}")
    trainer: Dict[str, Any] = Params.from_file(tmp_path / "trainer.jsonnet").as_dict()
    if accelerator := trainer.pop("ddp_accelerator", None):  # is for several processes
        params = Params({**accelerator, "local_rank": 0, "world_size": 1})
        assert DdpAccelerator.from_params(params)._ddp_kwargs["find_unused_parameters"]
        return
    config = experiment(
        cats_and_dogs,
        dataset_reader__transforms=[{"type": "eval", "size": 224 if "size" in text else 32}],
        data_loader__batch_size=24,
        model__im2im_encoder={"type": "small_resnet", "widths": [16, 32], "blocks": [1, 1]},
        model__im2vec_encoder__input_channels=32,
    )
    config["trainer"] |= {"num_epochs": 4, **trainer}
    train(config, tmp_path / "run")
    assert (tmp_path / "run" / "model.tar.gz").exists()


def test_a_plan_of_ones_own() -> None:
    (code,) = blocks("python")
    exec(compile(code, "fine_tuning.md", "exec"), {})
    callback = TrainerCallback.from_params(
        Params({"type": "last_stage_at_the_end"}), serialization_dir="run"
    )
    assert [callback.num_trained_stages(epoch, 5) for epoch in (0, 7, 8)] == [0, 0, 1]


def test_the_commands_for_several_runs_are_parsed() -> None:
    """tests/commands/sweep_test.py runs such ones."""
    (ray,) = (block for block in blocks("text") if "--on ray" in block)
    for command in (PARALLEL, ray.removeprefix("RAY_ADDRESS=head:6379 ")):
        name, *arguments = shlex.split(command)[1:]
        args = command_parser(name).parse_args(arguments)
        assert (args.parallel, args.on) == ((2, None) if command is PARALLEL else (None, "ray"))


@pytest.mark.parametrize(
    ("command", "fewer", "expected"),
    [
        pytest.param(SEEDS, ("--seeds 3", "--seeds 1"), "1 of 1 seeds", id="seeds"),
        pytest.param(FOLDS, ("5", "2"), "2 of 2 folds", id="folds", marks=pytest.mark.exhaustive),
    ],
)
def test_sweep(
    folder: Path, run: Run, command: str, fewer: "tuple[str, str]", expected: str
) -> None:
    assert fewer[0] in command
    few = shlex.split(command.replace(*fewer))
    result = run(*few, "-o", overrides(folder, **{"trainer.num_epochs": 1}), cwd=folder)
    (row,) = re.findall(r"^best_validation_accuracy .*$", result.stdout, re.MULTILINE)
    assert row.endswith(expected)
    kind = few[-2].strip("-")
    assert (folder / "runs" / kind / "sweep.json").exists()


def test_tune(folder: Path, run: Run) -> None:
    pytest.importorskip("optuna")
    command = shlex.split(TUNE.replace("--trials 20", "--trials 1"))
    run(*command, "-o", overrides(folder, **{"trainer.num_epochs": 1}), cwd=folder)
    runs = folder / "runs" / "tuned"
    (trial,) = json.loads((runs / "tune.json").read_text())["trials"]
    config = Params.from_file(runs / "best.json").as_dict(quiet=True)
    assert config["trainer"]["optimizer"]["lr"] == trial["values"]["trainer.optimizer.lr"]
    assert json.loads((runs / "trial_0.json").read_text()) == {**config, "evaluate_on_test": False}


def test_the_values_of_a_space_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| `([{\[].*?[}\]])` \|", PAGE, re.MULTILINE)
    space = {f"key {number}": json.loads(value) for number, value in enumerate(rows)}
    assert len(search_space(space)) == len(space) == len(RANGES) + 1
