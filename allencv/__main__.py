"""
The `allencv` command: AllenNLP's commands, with every part of AllenCV registered.

AllenNLP and torch take seconds to import. Help, completion and the parsing of arguments do not need
them, and neither do `serve` and `classify` with a bundle. These also work where the two are not
installed.
"""
# PYTHON_ARGCOMPLETE_OK

import argparse
import errno
import io
import os
import re
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Iterable, Iterator, List, NoReturn, Optional

import allencv
from allencv.command_list import COMMANDS, OF_ALLENNLP, SUMMARIES
from allencv.command_parsers import command_named, command_parser, parser_of_all

USAGE = """\
usage: allencv COMMAND ...
       allencv COMMAND --help
       allencv --version

Image classification as an AllenNLP experiment."""
NOTES = """\
An archive is the model.tar.gz of a run, or the folder of the run. A bundle is
an exported archive; it needs neither torch nor AllenNLP. Commands of plugins,
and some that only AllenNLP has, are not listed."""
OPTIONS = ("--help", "--version")
QUIET = {"calibrate", "check-config", "check-data", "classify", "components", "explain", "export"}
QUIET |= {"pack", "report", "review", "serve", "show-batch"}
"""The commands that print their results; for them AllenNLP logs only warnings."""
CHECKED_BY_ALLENNLP = {"build-vocab", "cached-path", "diff", "push-to-hf"}
"""The commands whose arguments only AllenNLP checks; it raises `ValueError` with a message."""
WITH_BUNDLES = ("classify", "serve")
"""The commands that take bundles, and archives as well."""
WITHOUT_PARTS = {"join", "recipe"}
"""The commands that never need AllenNLP."""
SECONDS_TO_STOP = 5.0
"""How long a command may go on after Ctrl-C or SIGTERM."""
TRAINING = {"fit", "sweep", "train", "tune"}
SAY_STEPS_IN_LOGS = {*TRAINING, "calibrate"}
"""The commands that say what they are doing without a terminal, too. They may take minutes."""
COMPUTING = {"embed", "evaluate", "find-lr", "predict", "review"}
"""The commands that compute a network with torch for long, but for those that train a model."""
SECONDS_TO_ARCHIVE = 60.0
"""The same for commands that train: AllenNLP archives the best epoch so far."""
PIPE_STATUS = 141
"""The exit status of a command whose output pipe is closed, as in shells."""


def main() -> None:
    """Run the command line. Exit with a status, and print errors as one line."""
    _replace_closed_streams()
    if "_ARGCOMPLETE" in os.environ:
        _complete()
    if sys.argv[1:2] == ["help"]:
        sys.argv[1:] = [*sys.argv[2:3], "--help"]
    name, *arguments = sys.argv[1:] or ["--help"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8
    try:
        if name in ("-h", "--help"):
            print(help_text())
        elif name == "--version":
            print(f"allencv {allencv.__version__}")
        else:
            _run_until_stopped(name, arguments)
        sys.stdout.flush()  # now: an error at exit could not be handled
    except BrokenPipeError:  # the reader has closed the pipe: `head`, or a pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(PIPE_STATUS)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"allencv: {error.strerror or error}")


def _replace_closed_streams() -> None:
    """Let the null device replace a standard stream that is closed, as after `2>&-` in a shell."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, errors="backslashreplace")  # noqa: SIM115 - stays open
            setattr(sys, name, stream)


def _complete() -> None:
    """Print what the shell can complete the command line with, and exit."""
    from argcomplete import autocomplete

    autocomplete(parser_of_all())


def _run_until_stopped(name: str, arguments: List[str]) -> None:
    from allencv.runtime.launcher_watch import end_with_launcher, has_launcher
    from allencv.runtime.openmp import wait_asleep_if_busy
    from allencv.runtime.stopping import leave, name_of, status_after, stop_within
    from allencv.runtime.terminal import log_to_file_only

    end_with_launcher()
    if name != "serve":  # it first answers accepted requests, and has its own time limit
        seconds = SECONDS_TO_ARCHIVE if name in TRAINING else SECONDS_TO_STOP
        stop_within(seconds, say_so=not has_launcher())
    if name in COMPUTING:
        wait_asleep_if_busy()
    try:
        run_command(name, arguments)
    except KeyboardInterrupt as stop:
        if not has_launcher():  # which says so
            print(f"allencv: stopped by {name_of(stop)}", file=sys.stderr)
        leave(status_after(stop))
    except BrokenPipeError:
        raise
    except Exception as error:
        message = message_of(error)
        if message is None or os.environ.get("ALLENNLP_DEBUG"):
            raise
        log_to_file_only(__name__, f"Ended by: {message}")  # the line below is printed
        if has_launcher():  # torch could wait for other ranks at the end of Python
            print(f"allencv: {message}", file=sys.stderr)
            leave(1)
        sys.exit(f"allencv: {message}")


def run_command(name: str, arguments: List[str]) -> None:
    """
    Run a command of `allencv.commands`, or else one of AllenNLP or of a plugin. Exit if there is
    none of this name.
    """
    if name not in SUMMARIES and not may_have_plugins(arguments):
        _exit_without_command(name, SUMMARIES)
    if name in OF_ALLENNLP or name not in SUMMARIES:
        with _every_part(name, arguments):
            from allennlp.commands import Subcommand
            from allennlp.commands import main as run

            known = Subcommand.list_available()
            if name not in known:
                _exit_without_command(name, [*SUMMARIES, *known])
            run(prog="allencv")
        return
    args = command_parser(name).parse(arguments)
    if name in WITHOUT_PARTS or (name in WITH_BUNDLES and _takes_bundle(args)):
        command_named(name).run(args)
        return
    with _every_part(name, [f"--include-package={each}" for each in args.include_package]):
        command_named(name).run(args)


def may_have_plugins(arguments: List[str]) -> bool:
    """Return whether plugins or included packages may register commands of their own."""
    from allencv.runtime.plugin_files import named_plugins

    included = any(each.startswith("--include-package") for each in arguments)
    return included or any(plugin.name != "allencv.plugin" for plugin in named_plugins())


def _exit_without_command(name: str, known: Iterable[str]) -> NoReturn:
    if name.startswith("-"):
        expected = get_close_matches(name, OPTIONS, n=1) or OPTIONS
        print(f"allencv: no option {name!r}; expected {' or '.join(expected)}", file=sys.stderr)
        sys.exit(2)
    known = dict.fromkeys(known)
    nearest = get_close_matches(name, known, n=3) or known
    print(f"allencv: no command {name!r}; expected {', '.join(nearest)}", file=sys.stderr)
    sys.exit(2)


def _warn_of_plugins_command(name: str) -> None:
    """Say that a plugin's command is not run, as AllenCV has one of this name."""
    from allennlp.commands import Subcommand

    if name in OF_ALLENNLP or name not in Subcommand.list_available():
        return
    module = Subcommand.by_name(name).__module__
    if not module.startswith("allennlp."):
        print(
            f"allencv: warning: running AllenCV's {name}; the one of {module} is 'allennlp {name}'",
            file=sys.stderr,
        )


def help_text() -> str:
    """Return the text of `allencv --help`."""
    width = max(len(name) for commands in COMMANDS.values() for name in commands)
    groups = []
    for group, commands in COMMANDS.items():
        lines = [f"    {name:{width}}  {summary}" for name, summary in commands.items()]
        groups.append("\n".join([f"{group}:", *lines]))
    return "\n\n".join([USAGE, *groups, NOTES])


def message_of(error: Exception) -> Optional[str]:
    """
    Return the line to print for an error that a user can correct: it needs no traceback. Return
    `None` for an error in the code.
    """
    if isinstance(error, allencv.AllenCVError):
        return str(error)
    if isinstance(error, OSError):
        files = [f"'{file}'" for file in (error.filename, error.filename2) if file is not None]
        reason = error.strerror or str(error).partition("\n")[0] or type(error).__name__
        return f"{' to '.join(files)}: {reason}" if files else reason
    if isinstance(error, MemoryError):
        return f"out of memory: {error}".removesuffix(": ")
    return None


def _takes_bundle(args: argparse.Namespace) -> bool:
    """Return whether the model is a bundle. Raise `InputError` if it is missing."""
    from allencv.runtime.bundle import check_exists, is_bundle

    check_exists(args.model)
    return is_bundle(args.model) and not args.include_package


@contextmanager
def _every_part(name: str, arguments: List[str]) -> Iterator[None]:
    """
    Register every part for a command, which runs in the block. Raise `InputError` for the errors of
    AllenNLP and torch that a user can correct.
    """
    if name in QUIET:
        os.environ.setdefault("ALLENNLP_LOG_LEVEL", "WARNING")
    from allencv.runtime.errors import InputError
    from allencv.runtime.installing import how_to_install
    from allencv.runtime.terminal import notice

    try:
        # Others may parse the standard error of the other commands.
        with notice("loading torch and AllenNLP", in_logs=name in SAY_STEPS_IN_LOGS):
            import allennlp.__main__  # noqa: F401 - sets up logging as for the allennlp command

            import allencv.plugin  # noqa: F401
            from allencv.common.console import console_to_follow
            from allencv.common.included_packages import import_included_packages, import_plugins
            from allencv.training import TrainingError
    except ModuleNotFoundError as error:
        installs = how_to_install(error.name or "")
        if installs is None:
            raise
        raise InputError(
            f"{name} needs {error.name}, which is not installed: {installs}; without it you can "
            f"use {' and '.join(WITH_BUNDLES)} with bundles made by 'allencv export'"
        ) from error
    from pickle import UnpicklingError

    from allennlp.common.checks import ConfigurationError

    try:
        with console_to_follow():
            import_plugins()
            import_included_packages(arguments)
            if name in SUMMARIES:
                _warn_of_plugins_command(name)
            yield
    except (ConfigurationError, TrainingError) as error:
        raise InputError(str(error)) from error
    except UnpicklingError as error:
        raise InputError("a file of weights is damaged, or is not a file of weights") from error
    except (RuntimeError, ValueError) as error:
        is_plain = name in CHECKED_BY_ALLENNLP and isinstance(error, ValueError)
        message = str(error) if is_plain else mistake_of(error)
        if message is None:
            raise
        raise InputError(message) from error


def mistake_of(error: Exception) -> Optional[str]:
    """Return what a user can do about an error of jsonnet, AllenNLP or torch, if anything."""
    text = str(error)
    first = text.partition("\n")[0]
    if text.startswith(("RUNTIME ERROR", "STATIC ERROR")):
        from allencv.catalogue.config_files import unset_variable

        variable = re.match("RUNTIME ERROR: undefined external variable: (.*)", first)
        return unset_variable(variable[1]) if variable else first
    if found := re.fullmatch(r"overrides dict contains unused keys: (.*)", text):
        return (
            f"the overrides have {found[1]}; expected a key that the config has, or a whole new "
            'object: {"distributed": {"cuda_devices": [0, 1]}}'
        )
    if "out of memory" in text or "can't allocate memory" in text:
        return f"out of memory: {first}; a smaller --batch-size or image size needs less"
    return None


if __name__ == "__main__":
    main()
