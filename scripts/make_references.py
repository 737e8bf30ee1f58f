"""
Writes the pages of documentation that are made from the code: `FOLDER/parts.md`, `config.md` and
`command_line.md`. Without a FOLDER, into docs/.

    python scripts/make_references.py [FOLDER]
"""

import os
import re
import sys
from pathlib import Path

os.environ["COLUMNS"] = "100"  # the width of help texts

import allennlp
from allennlp.commands import parse_args
from allennlp.commands.subcommand import Subcommand
from allennlp.common.plugins import import_plugins

import allencv.commands
import allencv.plugin  # noqa: F401
from allencv.catalogue import config_page, markdown
from allencv.runtime.whole_files import write_text

PATHS = {str(Path(allennlp.__file__).parent): "allennlp", str(Path.home()): "~"}
"""Defaults that are paths of this machine, and what they are called on any other."""

_COMMAND_LINE = """# The command line

What `allencv COMMAND --help` says of AllenCV's own commands, and the usage of those that `allennlp`
has too, of which `--help` says more. Written by `scripts/make_references.py`.

## How a command ends

| exit status | |
|---|---|
| 0 | done |
| 1 | an error; the last line begins with `allencv:` and says what was wrong |
| 2 | arguments that the command does not have |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
| 141 | nobody reads the output any more, as after `| head` |

With `ALLENNLP_DEBUG=1` in the environment an error comes with its place in the code.

After Ctrl-C or SIGTERM a command ends within 5 seconds, whatever it is waiting for. `train`, `fit`
and `sweep` have 60 seconds, in which AllenNLP makes an archive of the best epoch so far. `serve`
first answers what it has accepted ([serving.md](serving.md)).

A file that a command writes appears when it is whole. Until then, and after an error such as a full
disk, an older file of that name is there as before.
"""


def command_line() -> str:
    """The help of every command, in alphabetical order."""
    argv, sys.argv = sys.argv, ["allencv", "components"]  # AllenNLP makes no parser without them
    parser, _ = parse_args("allencv")
    sys.argv = argv
    (commands,) = parser._subparsers._group_actions
    pages = [_COMMAND_LINE.rstrip()]
    for name, command in sorted(commands.choices.items()):
        is_ours = Subcommand.by_name(name).__mro__[:2] == (Subcommand.by_name(name), Subcommand)
        is_ours = is_ours and Subcommand.by_name(name).__module__.startswith("allencv.")
        text = command.format_help() if is_ours else command.format_usage()
        pages.append(f"## {name}\n\n```\n{text.rstrip()}\n```")
    return re.sub(r", here \d+", "", "\n\n".join(pages))  # the cores of this machine


def main() -> None:
    import_plugins()  # as `allencv components` does: all of AllenNLP is imported
    folder = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent.parent / "docs"
    for name, page in {
        "parts.md": markdown.overview(),
        "config.md": config_page(),
        "command_line.md": command_line(),
    }.items():
        for path, general in PATHS.items():
            page = page.replace(path, general)
        write_text(folder / name, f"{page.rstrip()}\n")
        print(folder / name)


if __name__ == "__main__":
    main()
