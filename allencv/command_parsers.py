"""The parsers of the commands. They need neither torch nor AllenNLP."""

import argparse
import os
import re
import shlex
from difflib import get_close_matches
from importlib import import_module
from itertools import takewhile
from typing import NoReturn, Protocol, Sequence, cast

from allencv.command_list import OF_ALLENNLP, SUMMARIES


class Command(Protocol):
    """What a module of `allencv.commands` has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments, and what the help says besides them and the summary."""
        ...

    def run(self, args: argparse.Namespace) -> None:
        """Run the command."""
        ...


class CommandParser(argparse.ArgumentParser):
    """Prints a mistake as one line, without the usage."""

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse arguments. Exit if one is wrong; an unknown option is printed first."""
        for word in takewhile("--".__ne__, arguments):
            if not self._may_be_known(word):
                self.exit(2, f"allencv: {self._unknown(word)}\n")
        return self.parse_args(arguments)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"allencv: {message}; '{self.prog} --help' shows the arguments\n")

    def _may_be_known(self, word: str) -> bool:
        """Return whether a word is an option, its beginning, or no option."""
        name = word.partition("=")[0]
        if not name.startswith("-") or name == "-" or re.match(r"-\.?\d", name) or " " in name:
            return True
        return any(
            option.startswith(name) or (len(option) == 2 and name.startswith(option))
            for option in self._option_string_actions
        )

    def _unknown(self, word: str) -> str:
        """Return what is wrong with an option that does not exist."""
        name = word.partition("=")[0]
        text = f"no option {name!r} of {self.prog.partition(' ')[2]}"
        if os.path.lexists(word):
            return f"{text}; if it is a file, write {shlex.quote(f'./{word}')}"
        options = {option.lstrip("-"): option for option in self._option_string_actions}
        nearest = get_close_matches(name.lstrip("-"), options, n=1)
        if nearest:
            return f"{text}; did you mean {options[nearest[0]]}?"
        return f"{text}; '{self.prog} --help' lists them"


def command_named(name: str) -> Command:
    return cast(Command, import_module(f"allencv.commands.{name.replace('-', '_')}"))


def command_parser(name: str) -> CommandParser:
    """Return the parser of a command, whose help begins with the summary."""
    parser = CommandParser(prog=f"allencv {name}", description=SUMMARIES[name])
    _add_arguments(parser, name)
    return parser


def parser_of_all() -> argparse.ArgumentParser:
    """Return a parser that knows every command, as tab completion needs it."""
    parser = argparse.ArgumentParser(prog="allencv")
    parser.add_argument("--version", action="version", version="")
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
