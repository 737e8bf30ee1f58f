"""The configs of `training_config/`, which the package carries, as files to start from."""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Dict

from allencv.runtime.errors import InputError

_PACKAGE = Path(__file__).parent
# An installed package has the folder inside, a clone beside it.
_FOLDERS = (_PACKAGE / "training_config", _PACKAGE.parent / "training_config")
_IMPORT = re.compile(r'import "([\w/.-]+\.(?:lib|j)sonnet)"')


def list_recipes() -> Dict[str, str]:
    """Return the name of each recipe, and the first sentence of its header."""
    return {name: _summary(_read(file)) for name, file in sorted(_files().items())}


def recipe(name: str) -> str:
    """
    Return the text of a recipe, with what it imports, so that one file is enough.

    # Raises

    `InputError` if there is no recipe of this name.
    """
    files = _files()
    if name not in files:
        expected = get_close_matches(name, files, n=3) or sorted(files)
        raise InputError(f"no recipe {name!r}; expected {', '.join(expected)}")
    file = files[name]
    return _with_imports(file).replace(f"training_config/{file.name}", file.name)


def _files() -> Dict[str, Path]:
    # Not both folders: beside an installed package, the folder is of another package.
    folder = next(filter(Path.is_dir, _FOLDERS), _FOLDERS[0])
    files = {file.stem: file for file in folder.glob("*.jsonnet")}
    if not files:
        raise InputError(f"'{folder}' has no recipes; expected those of AllenCV: install it again")
    return files


def _with_imports(file: Path) -> str:
    """Return the text of a config with the files that it imports, and those that they import."""
    return _IMPORT.sub(lambda found: f"(\n{_with_imports(file.parent / found[1])})", _read(file))


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def _summary(text: str) -> str:
    header = text.replace("\n//", "").removeprefix("// ")
    return re.split(r"\.\s", header, maxsplit=1)[0] + "."
