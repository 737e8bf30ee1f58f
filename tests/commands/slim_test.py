"""What of the `allencv` command works without torch and AllenNLP, and so starts at once."""

import argparse
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from allennlp.commands.subcommand import Subcommand

import allencv.commands
from allencv import __version__
from allencv.__main__ import help_text
from allencv.command_list import COMMANDS, SUMMARIES
from tests.conftest import ROOT, write_images
from tests.runtime.tiny_bundle import write_bundle

HEAVY = {"allennlp", "torch", "torchvision", "transformers", "spacy"}

START = """
import sys
class Refusal:
    def find_spec(self, name, path=None, target=None):
        if {refuse} and name.split(".")[0] in {heavy}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)
sys.meta_path.insert(0, Refusal())
from allencv.__main__ import main
try:
    main()
finally:
    print("loaded:", *{{name.split(".")[0] for name in sys.modules}})
"""


def start(*arguments: object, refuse: bool = False) -> "subprocess.CompletedProcess[str]":
    """The command in a process that says at its end what it has imported."""
    code = START.format(refuse=refuse, heavy=HEAVY)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def loaded(result: "subprocess.CompletedProcess[str]") -> "set[str]":
    _, _, names = result.stdout.rpartition("loaded:")
    return set(names.split())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("refuse", [False, True])
def test_a_bundle_is_classified_without_torch(bundle: Path, tmp_path: Path, refuse: bool) -> None:
    photos = write_images(tmp_path / "photos", {"a": 2})
    arguments = ["classify", bundle, photos, "-o", tmp_path / "out.csv"]
    result = start(*arguments, refuse=refuse)
    assert result.returncode == 0, result.stderr
    assert not result.stderr
    assert f"{tmp_path / 'out.csv'}: 2 images, no errors" in result.stdout
    assert "onnxruntime" in loaded(result)
    assert not HEAVY & loaded(result)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--version"]])
def test_help_needs_nothing(arguments: "list[str]") -> None:
    result = start(*arguments)
    assert result.returncode == 0
    assert not {*HEAVY, "numpy", "PIL"} & loaded(result)
    if arguments == ["--version"]:
        assert f"allencv {__version__}\n" in result.stdout
    else:
        assert "usage: allencv COMMAND" in result.stdout


@pytest.mark.parametrize("name", ["classify", "serve"])
def test_help_with_bundles_needs_no_torch(name: str) -> None:
    result = start(name, "--help", refuse=True)
    assert result.returncode == 0, result.stderr
    assert f"usage: allencv {name} " in result.stdout
    assert "--include-package" in result.stdout
    assert not HEAVY & loaded(result)


def test_every_command_has_a_line_of_help() -> None:
    for module in pkgutil.iter_modules(allencv.commands.__path__):
        importlib.import_module(f"allencv.commands.{module.name}")
    registered = [
        name
        for name in Subcommand.list_available()
        if Subcommand.by_name(name).__module__.startswith(("allencv.", "allennlp."))
    ]
    listed = [name for commands in COMMANDS.values() for name in commands]
    assert sorted(listed) == sorted(registered)
    lines = help_text().splitlines()
    assert max(map(len, lines)) <= 80
    for commands in COMMANDS.values():
        for name, summary in commands.items():
            (line,) = [line for line in lines if line.split()[:1] == [name]]
            assert line.split(None, 1)[1] == summary
            assert summary.endswith(".")


def test_the_help_of_a_command_begins_with_its_summary() -> None:
    own = {
        name: Subcommand.by_name(name)()
        for name in SUMMARIES
        if Subcommand.by_name(name).__bases__ == (Subcommand,)  # not one of AllenNLP's, extended
        and Subcommand.by_name(name).__module__.startswith("allencv.")
    }
    assert {"fit", "serve", "sweep"} <= own.keys()
    for name, command in own.items():
        parser = command.add_subparser(argparse.ArgumentParser().add_subparsers())
        assert str(parser.description).startswith(SUMMARIES[name])


def test_an_error_with_a_bundle_is_a_line(bundle: Path, tmp_path: Path) -> None:
    data = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    photos = write_images(tmp_path / "photos", {"a": 1})
    for path, message in ((photos, "model.onnx: it was changed"), ("nowhere", "gives no image")):
        result = start("classify", bundle, path, "-o", tmp_path / "out.csv")
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("allencv: ")
        assert message in line


@pytest.mark.parametrize("name", ["classify", "train"])
def test_what_needs_allennlp_says_so(tmp_path: Path, name: str) -> None:
    result = start(name, tmp_path / "model.tar.gz", tmp_path, "-o", "out.csv", refuse=True)
    assert result.returncode == 1
    assert result.stderr == (
        f"allencv: {name} needs allennlp, which is not installed; without it you can use "
        "classify and serve with bundles made by 'allencv export'\n"
    )
