"""The parsers of the commands. They need neither torch nor AllenNLP."""

import argparse
from importlib import import_module
from typing import Protocol, cast

from allencv.command_list import SUMMARIES

OF_ALLENNLP = {"cached-path", "checklist", "push-to-hf", "test-install"}
"""The commands that only AllenNLP has; it parses their arguments itself."""


class Command(Protocol):
    """What a module of `allencv.commands` has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments, and what the help says besides them and the summary."""
        ...

    def run(self, args: argparse.Namespace) -> None:
        """Run the command."""
        ...


def command_named(name: str) -> Command:
    return cast(Command, import_module(f"allencv.commands.{name.replace('-', '_')}"))


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command, whose help begins with the summary."""
    parser = argparse.ArgumentParser(prog=f"allencv {name}", description=SUMMARIES[name])
    _add_arguments(parser, name)
    return parser


def parser_of_all() -> argparse.ArgumentParser:
    """Return a parser that knows every command, as tab completion needs it."""
    parser = argparse.ArgumentParser(prog="allencv")
    commands = parser.add_subparsers()
    for name, summary in SUMMARIES.items():
        command = commands.add_parser(name, description=summary)
        if name not in OF_ALLENNLP:
            _add_arguments(command, name)
    return parser


def _add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    command_named(name).add_arguments(parser)
    parser.add_argument(
        "--include-package",
        type=str,
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package to import first, with parts of your own",
    )
