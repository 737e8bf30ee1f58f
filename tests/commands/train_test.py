import json
from pathlib import Path

import pytest

from allencv.command_parsers import command_parser
from allencv.commands.train import command_of_rank
from allencv.runtime.errors import InputError
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
