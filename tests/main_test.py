"""How the `allencv` command ends: its status, and the line that it says."""

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Callable, List

import pytest
from allennlp.commands import Subcommand
from allennlp.common import Registrable
from argcomplete import CompletionFinder

from allencv import __main__ as command
from allencv.command_list import OF_ALLENNLP
from allencv.command_parsers import command_parser, parser_of_all
from allencv.runtime import stopping
from allencv.runtime.bundle import open_bundle
from allencv.runtime.errors import BundleError, ImageError, InputError
from allencv.runtime.images import read_image
from allencv.runtime.stopping import Terminated
from allencv.runtime.whole_files import write_text
from tests.conftest import Run


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Run a command that does what it is given, and return its status and the errors it prints."""

    def ends(run: Callable[[], object], name: str = "classify") -> "tuple[int, str]":
        monkeypatch.setattr(sys, "argv", ["allencv", name])
        monkeypatch.setattr(stopping, "stop_within", lambda seconds, **_: waits.append(seconds))
        monkeypatch.setattr(stopping, "leave", sys.exit)
        monkeypatch.setattr(command, "run_command", lambda name, arguments: run())
        with pytest.raises(SystemExit) as end:
            command.main()
        if isinstance(end.value.code, str):
            return 1, end.value.code
        return int(end.value.code or 0), capsys.readouterr().err.rstrip("\n")

    waits: List[float] = []
    ends.waits = waits  # type: ignore[attr-defined]
    return ends


def raises(error: BaseException) -> Callable[[], object]:
    def run() -> None:
        raise error

    return run


def test_an_error_of_the_system_is_one_line_with_the_path(ends: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for run, line in (
        (tmp_path.read_bytes, f"'{tmp_path}': Is a directory"),
        ((tmp_path / "no").read_bytes, f"'{tmp_path}/no': No such file or directory"),
        (lambda: (tmp_path / "file" / "b").mkdir(), f"'{tmp_path}/file/b': Not a directory"),
        (lambda: write_text("/dev/full", "a"), "'/dev/full': No space left on device"),
        (
            lambda: (tmp_path / "no").rename(tmp_path / "yes"),
            f"'{tmp_path}/no' to '{tmp_path}/yes': No such file or directory",
        ),
        (raises(FileNotFoundError("file a not found")), "file a not found"),
        (raises(PermissionError()), "PermissionError"),
        (raises(ConnectionError("no host\n in the cache")), "no host"),
        (raises(MemoryError()), "out of memory"),
        (
            raises(MemoryError("Unable to allocate 1 TiB")),
            "out of memory: Unable to allocate 1 TiB",
        ),
    ):
        assert ends(run) == (1, f"allencv: {line}")


def test_what_the_parts_say_is_the_line(ends: Callable, tmp_path: Path) -> None:
    for run, kind in (
        (lambda: read_image(tmp_path / "a.jpg"), ImageError),
        (lambda: open_bundle(tmp_path), BundleError),
        (raises(InputError("--top-k is 0; expected at least 1")), InputError),
    ):
        with pytest.raises(kind) as error:
            run()
        assert ends(run) == (1, f"allencv: {error.value}")


def test_an_error_in_the_code_keeps_its_traceback(
    ends: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (KeyError("a"), ValueError("b"), RuntimeError("c")):
        with pytest.raises(type(error)):
            ends(raises(error))
    monkeypatch.setenv("ALLENNLP_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        ends(raises(FileNotFoundError("as do others if they are asked for")))


def test_signals_and_pipes_end_without_a_traceback(
    ends: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ends(raises(KeyboardInterrupt())) == (130, "allencv: stopped by SIGINT")
    assert ends(raises(Terminated())) == (143, "allencv: stopped by SIGTERM")
    duplicated: List[int] = []
    monkeypatch.setattr(command.os, "dup2", lambda new, old: duplicated.append(old))
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert ends(raises(BrokenPipeError())) == (128 + signal.SIGPIPE, "")
    assert duplicated == [sys.__stdout__.fileno()]  # type: ignore[union-attr]


def test_training_has_longer_to_end_and_a_server_its_own_time(ends: Callable) -> None:
    for name in ("classify", "train", "serve"):
        ends(raises(KeyboardInterrupt()), name)
    assert ends.waits == [5, 60]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUNTIME ERROR: field does not exist: a\n\tc.jsonnet:3", "RUNTIME ERROR: field does not"),
        ("overrides dict contains unused keys: ['a.b']", r"the overrides have \['a.b'\]; expected"),
        ("CUDA out of memory. Tried to allocate 20 GiB\n", "out of memory: CUDA out of memory. Tr"),
        (
            "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory",
            "out of memory: ",
        ),
    ],
)
def test_what_allennlp_and_torch_find_is_a_line(text: str, line: str) -> None:
    message = command.mistake_of(RuntimeError(text))
    assert message is not None
    assert "\n" not in message
    assert re.match(line, message)


def test_other_errors_of_torch_are_none_of_the_users() -> None:
    assert command.mistake_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_allennlps_own_commands_say_what_they_were_given(run: Run, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    result = run("allencv", "build-vocab", "c.json", "out", cwd=tmp_path, fails=True)
    last = result.stderr.splitlines()[-1]
    assert last == "allencv: param 'output_path' should end with '.tar.gz'"
    assert "Traceback" not in result.stderr


def test_a_misspelt_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(stopping, "stop_within", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    def answer(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["allencv", *arguments])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        return str(capsys.readouterr().err)

    assert answer("trian", "--help") == "allencv: no command 'trian'; expected train\n"
    assert "expected check-data, show-batch, " in answer("?")
    assert answer("--x") == "allencv: no option '--x'; expected --help or --version\n"
    assert answer("--hlep") == "allencv: no option '--hlep'; expected --help\n"
    assert answer("help", "trian") == "allencv: no command 'trian'; expected train\n"
    Path(".allennlp_plugins").write_text("allencv.plugin\n\n")
    assert "expected serve" in answer("server")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("fit --hlep", "no option '--hlep' of fit; did you mean --help?"),
        ("classify --tpo-k 3 a b", "no option '--tpo-k' of classify; did you mean --top-k?"),
        ("classify --tpo-k=3 a b", "no option '--tpo-k' of classify; did you mean --top-k?"),
        ("fit -x", "no option '-x' of fit; 'allencv fit --help' lists them"),
        (
            "classify a -dash.jpg",
            "no option '-dash.jpg' of classify; if it is a file, write ./-dash.jpg",
        ),
        (
            "fit --lr -1",
            "the following arguments are required: DATA, -o/--output; 'allencv fit --help' shows "
            "the arguments",
        ),
        (
            "recipe -- --a b",
            "unrecognized arguments: b; 'allencv recipe --help' shows the arguments",
        ),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.jpg").touch()
    name, *words = arguments.split()
    with pytest.raises(SystemExit) as end:
        command.run_command(name, words)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"allencv: {line}\n"


def test_arguments_that_only_look_unknown() -> None:
    parse = command_parser("classify").parse
    assert parse(["-oout.csv", "--top=3", "m", "a", "--", "-b.jpg"]).paths == ["a", "-b.jpg"]
    assert command_parser("predict").parse(["m", "-", "--cuda", "-1"]).cuda_device == -1


def test_the_help_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(stopping, "stop_within", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["allencv", "help"])
    command.main()
    assert capsys.readouterr().out == f"{command.help_text()}\n"
    monkeypatch.setattr(sys, "argv", ["allencv", "help", "fit"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert not end.value.code
    assert capsys.readouterr().out == command_parser("fit").format_help()


def test_the_help_omits_what_only_allennlp_has() -> None:
    text = command.help_text()
    for name in OF_ALLENNLP:
        assert name not in text


def test_completion() -> None:
    def completed(line: str) -> List[str]:
        finder = CompletionFinder(parser_of_all())
        *words, beginning = line.split(" ")
        return [word.strip() for word in finder._get_completions(words, beginning, "", None)]

    assert "--version" in completed("allencv --")
    assert completed("allencv recipe hym") == ["hymenoptera", "hymenoptera_frozen"]


MY_COMMANDS = """
from allennlp.commands import Subcommand

class Mine(Subcommand):
    def add_subparser(self, parser):
        subparser = parser.add_parser(self.name)
        subparser.set_defaults(func=lambda args: print("of the plugin:", self.name))
        return subparser

for name in ("mine", "recount"):
    Subcommand.register(name)(type(name, (Mine,), {}))
"""


def test_commands_of_plugins(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my_commands.py").write_text(MY_COMMANDS)

    def ran(*arguments: str, fails: bool = False) -> "tuple[str, str]":
        result = run("allencv", *arguments, cwd=tmp_path, env={"HOME": str(tmp_path)}, fails=fails)
        return result.stdout, result.stderr

    included = "--include-package=my_commands"
    assert ran("mine", included)[0] == "of the plugin: mine\n"
    (tmp_path / ".allennlp").mkdir()
    (tmp_path / ".allennlp" / "plugins").write_text("\nmy_commands\n")
    assert ran("mine")[0] == "of the plugin: mine\n"
    output, errors = ran("recont", fails=True)
    assert not output
    last = errors.splitlines()[-1]
    assert last == "allencv: no command 'recont'; expected recount, report, predict"


def test_a_plugins_command_with_a_name_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    theirs = type("Serve", (Subcommand,), {"__module__": "allennlp_server.commands"})
    monkeypatch.setitem(Registrable._registry[Subcommand], "serve", (theirs, None))
    for name in ("serve", "train", "classify", "test-install"):
        command._warn_of_plugins_command(name)
    assert capsys.readouterr().err == (
        "allencv: warning: running AllenCV's serve; the one of allennlp_server.commands is "
        "'allennlp serve'\n"
    )


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "stop_within", lambda *_, **__: None)
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    for arguments in (["--version"], ["--help"], ["recipe"], ["trian"], ["recipe", "?"]):
        monkeypatch.setattr(sys, "argv", ["allencv", *arguments])
        with suppress(SystemExit):
            command.main()
        assert sys.stdin.read() == ""
        assert {sys.stdin.name, sys.stdout.name, sys.stderr.name} == {os.devnull}
