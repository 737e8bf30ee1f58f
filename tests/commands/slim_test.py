"""What of the `allencv` command works without torch and AllenNLP, and so starts at once."""

import argparse
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import argcomplete
import pytest
from allennlp.commands.subcommand import Subcommand

import allencv.commands
from allencv import __version__
from allencv.__main__ import help_text, main
from allencv.command_list import COMMANDS, OF_ALLENNLP, SUMMARIES
from allencv.command_parsers import command_parser, parser_of_all
from allencv.runtime import stopping
from allencv.runtime.installing import INSTALL_ALLENNLP
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


def test_help_and_wrong_arguments_need_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "stop_within", lambda *_, **__: None)
    for name in SUMMARIES.keys() - OF_ALLENNLP:
        for arguments, status, text in (
            (["--help"], 0, f"usage: allencv {name} "),
            (["--no-such"], 2, f"allencv: no option '--no-such' of {name}; "),
        ):
            monkeypatch.setattr(sys, "argv", ["allencv", name, *arguments])
            with pytest.raises(SystemExit) as end:
                main()
            assert end.value.code == status
            assert text in "".join(capsys.readouterr())


def test_no_module_of_a_command_imports_what_is_slow() -> None:
    code = "import sys; from allencv.command_parsers import parser_of_all; parser_of_all()"
    code += "; print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "argparse" in loaded(result)
    assert not {*HEAVY, "matplotlib", "numpy", "onnxruntime", "PIL"} & loaded(result)


def test_every_command_has_a_line_of_help() -> None:
    modules = {module.name for module in pkgutil.iter_modules(allencv.commands.__path__)}
    names = {module.replace("_", "-") for module in modules - {"shared_arguments"}}
    assert names == SUMMARIES.keys() - OF_ALLENNLP
    lines = help_text().splitlines()
    assert max(map(len, lines)) <= 80
    for commands in COMMANDS.values():
        for name, summary in commands.items():
            (line,) = [line for line in lines if line.split()[:1] == [name]]
            assert line.split(None, 1)[1] == summary
            assert summary.endswith(".")
            assert command_parser_of(name).description.startswith(summary)


def command_parser_of(name: str) -> Any:
    (commands,) = [each for each in parser_of_all()._actions if each.dest == "==SUPPRESS=="]
    return commands.choices[name]  # type: ignore[index]


def options_of(parser: argparse.ArgumentParser) -> Dict[str, Any]:
    """The name and default of each argument."""
    return {action.dest: action.default for action in parser._actions}


def test_the_commands_of_allennlp_keep_their_arguments() -> None:
    theirs = {
        name
        for name in Subcommand.list_available()
        if Subcommand.by_name(name).__module__.startswith("allennlp.")
    }
    assert theirs <= SUMMARIES.keys()
    for name in theirs - OF_ALLENNLP.keys():
        original = Subcommand.by_name(name)()
        parser = original.add_subparser(argparse.ArgumentParser().add_subparsers())
        expected = options_of(parser)
        if name == "evaluate":
            expected["cuda_device"] = [expected["cuda_device"]]  # ours takes several
        ours = options_of(command_parser(name))
        assert {key: ours.get(key) for key in expected} == expected
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert flags <= set(command_parser(name)._option_string_actions)


def test_the_shell_can_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    completer = argcomplete.CompletionFinder(parser_of_all())
    words, *_ = [completer._get_completions(["allencv", "check-config"], "--ov", "", None)]
    assert [word.strip() for word in words] == ["--overrides"]
    commands = completer._get_completions(["allencv"], "show", "", None)
    assert [word.strip() for word in commands] == ["show-batch"]


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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("classify", ["{}/model.tar.gz", "photos", "-o", "out.csv"]),
        ("train", ["a.json", "-s", "out"]),
    ],
)
def test_what_needs_allennlp_says_so(name: str, arguments: "list[str]", tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").touch()
    result = start(name, *(argument.format(tmp_path) for argument in arguments), refuse=True)
    assert result.returncode == 1
    *notice, line = result.stderr.splitlines()
    assert notice == (["loading torch and AllenNLP ..."] if name == "train" else [])
    assert line == (
        f"allencv: {name} needs allennlp, which is not installed: {INSTALL_ALLENNLP}; without it "
        "you can use classify and serve with bundles made by 'allencv export'"
    )
