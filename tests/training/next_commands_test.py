import shlex
from pathlib import Path

import pytest

from allencv.runtime.stopping import Terminated
from allencv.training.next_commands import next_commands, resumed_by, train_command


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
