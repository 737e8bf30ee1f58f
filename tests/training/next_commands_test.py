import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from allencv.commands.calibrate import add_arguments
from allencv.runtime.stopping import Terminated
from allencv.training.next_commands import (
    calibrate_command,
    next_commands,
    resumed_by,
    train_command,
)


@pytest.mark.parametrize(
    ("file", "folder", "packages", "command"),
    [
        ("runs/first.jsonnet", "runs/first", (), "allencv train runs/first.jsonnet -s runs/first"),
        ("a b.jsonnet", "it's", (), "allencv train 'a b.jsonnet' -s 'it'\"'\"'s'"),
        ("-x.jsonnet", "-x", (), "allencv train ./-x.jsonnet -s ./-x"),
        (
            *("a.jsonnet", "a", ("parts", "more.parts")),
            "allencv train a.jsonnet -s a --include-package parts --include-package more.parts",
        ),
    ],
)
def test_the_command_that_trains(
    file: str, folder: str, packages: "tuple[str, ...]", command: str
) -> None:
    assert train_command(Path(file), Path(folder), packages) == command
    assert len(shlex.split(command)) == 5 + 2 * len(packages)


def test_overrides_are_part_of_the_command() -> None:
    command = train_command("a.json", "run", (), '{"a": 1}')
    assert shlex.split(command) == ["allencv", "train", "a.json", "-s", "run", "-o", '{"a": 1}']


def test_paths_of_the_next_commands_are_quoted() -> None:
    for line in next_commands(Path("a run")):
        assert {"a run", "a run/model.tar.gz"} & set(shlex.split(line))


def run_of(folder: Path, **config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_the_command_that_calibrates_has_the_settings_of_the_config(tmp_path: Path) -> None:
    calibration = {
        **{"type": "default", "levels": [0.9, 0.8], "by_class": True, "target_accuracy": 0.99},
        **{"sets": None, "probabilities": {"type": "temperature"}, "certainty": None},
        "unknown": {"type": "nearest", "neighbour": 5},
    }
    command = calibrate_command(run_of(tmp_path, calibration=calibration), {"path": "a b"})
    assert command.endswith("  # has no option for unknown.neighbour 5")
    words = shlex.split(command, comments=True)
    assert words[:4] == ["allencv", "calibrate", str(tmp_path), '{"path": "a b"}']
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(words[2:])
    assert (args.levels, args.by_class, args.target_accuracy) == ([0.9, 0.8], True, 0.99)
    assert (args.sets, args.probabilities, args.certainty) == ("none", "temperature", 0.95)
    assert args.unknown == "nearest"


@pytest.mark.parametrize("config", [{}, {"calibration": "default"}])
def test_a_config_without_settings_for_the_calibration(tmp_path: Path, config: Any) -> None:
    command = calibrate_command(run_of(tmp_path, **config), "pets")
    assert command == f"allencv calibrate {tmp_path} pets"
    assert calibrate_command(tmp_path / "nowhere", "pets").endswith("nowhere pets")


def test_a_run_that_should_be_calibrated_and_is_not(tmp_path: Path) -> None:
    calibration = {"target_accuracy": 0.99}
    run_of(tmp_path, calibration_data_path="pets", calibration=calibration)
    said, command, *others = next_commands(tmp_path)
    assert said == "The model is not calibrated. The reason is in out.log. To calibrate it:"
    assert command == f"  allencv calibrate {tmp_path} pets --target-accuracy 0.99"
    (tmp_path / "certainty.json").touch()
    assert next_commands(tmp_path) == others


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_an_interrupted_run_can_resume_from_its_checkpoint(
    stop: "type[KeyboardInterrupt]", tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def said(folder: Path, error: "type[BaseException]") -> str:
        with pytest.raises(error), resumed_by("allencv train a -s b", folder):
            raise error
        return str(capsys.readouterr().err)

    assert said(tmp_path, stop) == said(tmp_path / "none", stop) == ""
    (tmp_path / "training_state_e0_b3.th").touch()
    assert said(tmp_path, stop) == "To resume the run: allencv train a -s b --recover\n"
    assert said(tmp_path, ValueError) == ""
