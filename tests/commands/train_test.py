"""What `allencv train` does around a training, which is not run here."""

import json
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from allennlp.common import Params
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from allencv import catalogue
from allencv.command_parsers import command_parser
from allencv.commands.train import command_of_rank
from allencv.models import BasicImageClassifier
from allencv.runtime.errors import InputError
from allencv.training import train_in_folder
from tests.configs import experiment
from tests.conftest import run_in_process


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--recover", "-o", '{"trainer.num_epochs": 3}', "--file-friendly-logging"],
        ["--force", "--dry-run", "--include-package", "mine", "--include-package", "yours"],
    ],
)
def test_each_rank_gets_the_arguments_of_the_command(options: "list[str]") -> None:
    arguments = ["photos.jsonnet", "-s", "runs/photos", *options]
    given = command_parser("train").parse_args([*arguments, "--node-rank", "1"])
    name, *of_rank = command_of_rank(given)
    assert name == "train"
    parsed = command_parser("train").parse_args(of_rank)
    assert vars(parsed) == {**vars(given), "node_rank": 0}


def test_a_node_rank_without_nodes(cats_and_dogs: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(experiment(cats_and_dogs)))
    with pytest.raises(InputError, match="--node-rank is 1, but the config has no distributed"):
        run_in_process("train", tmp_path / "config.json", "-s", tmp_path / "run", "--node-rank", 1)
    assert not (tmp_path / "run").exists()


def test_nodes_without_an_address(cats_and_dogs: Path, tmp_path: Path) -> None:
    block = {"cuda_devices": [-1], "num_nodes": 2}
    config = experiment(cats_and_dogs, distributed=block)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="distributed.primary_address is missing"):
        run_in_process("train", tmp_path / "config.json", "-s", tmp_path / "run")


@pytest.fixture
def trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run the command, with a function in place of the training."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()

    def trains(training: Callable[[], Optional[Model]], *arguments: str) -> None:
        def train(*args: Any, **kwargs: Any) -> Optional[Model]:
            return training()

        monkeypatch.setattr(catalogue, "read_config", lambda *args: Params({}))
        monkeypatch.setattr(train_in_folder, "train_in_folder", train)
        run_in_process("train", "a.json", "-s", "run", *arguments)

    return trains


def archived(model: Optional[Model]) -> Callable[[], Optional[Model]]:
    def train() -> Optional[Model]:
        Path("run", "model.tar.gz").touch()
        return model

    return train


IMAGE_MODEL = BasicImageClassifier.__new__(BasicImageClassifier)


@pytest.mark.parametrize("model", [IMAGE_MODEL, None], ids=["one process", "distributed"])
def test_it_ends_with_the_next_commands(
    model: Optional[Model], trains: Callable, capsys: pytest.CaptureFixture
) -> None:
    trains(archived(model))
    assert "  allencv classify run/model.tar.gz photos/ -o predictions.csv\n" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("training", "arguments"),
    [
        (lambda: None, ["--dry-run"]),
        (archived(Model.__new__(Model)), []),  # of another kind
    ],
)
def test_where_the_commands_do_not_apply(
    training: Callable, arguments: "list[str]", trains: Callable, capsys: pytest.CaptureFixture
) -> None:
    trains(training, *arguments)
    assert capsys.readouterr().out == ""


def test_an_interrupted_training_names_the_command_that_resumes_it(
    trains: Callable, capsys: pytest.CaptureFixture
) -> None:
    def interrupted() -> None:
        Path("run", "training_state_e0_b0.th").touch()
        raise KeyboardInterrupt

    overrides = json.dumps({"trainer.num_epochs": 2})
    with pytest.raises(KeyboardInterrupt):
        trains(interrupted, "-o", overrides)
    assert capsys.readouterr().err == (
        f"To resume the run: allencv train a.json -s run -o '{overrides}' --recover\n"
    )
