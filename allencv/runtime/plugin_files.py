"""The plugins of AllenNLP that files name: modules with parts or commands of a user's own."""

from contextlib import suppress
from pathlib import Path
from typing import List, NamedTuple

from allencv.runtime.errors import InputError

LOCAL = ".allennlp_plugins"
"""In the present folder. Another file, `.allennlp/plugins`, is in the user's home folder."""


class Plugin(NamedTuple):
    name: str
    """The name of a module."""
    place: str
    """Where it is named, such as "line 2 of '.allennlp_plugins'"."""
    is_local: bool


def named_plugins() -> List[Plugin]:
    """
    Return the plugins in the order of the files.

    # Raises

    `InputError` if a file is not text in UTF-8; `OSError` if it cannot be read.
    """
    plugins = {}
    files = [Path(LOCAL)]
    with suppress(RuntimeError):  # a user without a home folder, as in a container
        files.append(Path.home() / ".allennlp" / "plugins")
    for file in files:
        for number, name in enumerate(_lines_of(file), start=1):
            if name and name not in plugins:
                place = f"line {number} of '{file}'"
                plugins[name] = Plugin(name, place, is_local=str(file) == LOCAL)
    return list(plugins.values())


def _lines_of(file: Path) -> List[str]:
    if not file.is_file():  # AllenNLP, too, ignores a folder of this name
        return []
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise InputError(
            f"'{file}' is not text in UTF-8 ({error.reason}); expected the name of a module in "
            "each line"
        ) from error
