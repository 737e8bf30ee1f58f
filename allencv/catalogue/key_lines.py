"""
Find the lines of a config's keys in its file. Jsonnet evaluates to values without lines. So the
tokens of the file are read, and a key is found by the names around it.
"""

import contextlib
import re
from dataclasses import dataclass
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from allencv.catalogue.parts import Key, Path

_TOKEN = re.compile(
    r"""
    (?P<skipped> \s+ | //[^\n]* | \#[^\n]* | /\*.*?\*/ )
    | (?P<text> @"(?:[^"]|"")*" | @'(?:[^']|'')*' | \|\|\|.*?^\s*\|\|\| )
    | (?P<string> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<mark> [{}\[\](),;] | \+?:{1,3} )
    | (?P<other> [^\s"'{}\[\](),;:\w]+ | [\w.]+ | . )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


class Field(NamedTuple):
    """
    A key in the file: the names of the keys around it and its own; its line; and the next two
    words. The first of these is its value if the second ends it.
    """

    path: Path
    line: int
    words: List[str]

    def may_be(self, value: Any) -> bool:
        """Return whether the file may have this value."""
        word, end = [*self.words, "", ""][:2]
        if not isinstance(value, (str, int, float)) or end not in (",", "}"):
            return True
        if word[:1] in ("'", '"'):
            return word[1:-1] == value
        with contextlib.suppress(ValueError):
            return float(word) == value
        return True


@dataclass
class _Level:
    """An open bracket. `key` is that of the current value; in a list, its number."""

    bracket: str
    key: Optional[Key]


def find_fields(source: str) -> List[Field]:
    """Return the keys of all objects in a jsonnet file, in order."""
    found: List[Field] = []
    levels: List[_Level] = []
    candidate: Optional[str] = None  # a word that is a key if a colon follows
    for kind, word, line in _tokens(source):
        if found and len(found[-1].words) < 2:
            found[-1].words.append(word)
        level = levels[-1] if levels else None
        if kind == "mark" and word in "{[(":
            levels.append(_Level(word, 0 if word == "[" else None))
        elif kind == "mark" and word in "}])":
            if levels:
                levels.pop()
        elif word == "," and level is not None:
            if level.bracket == "[" and isinstance(level.key, int):
                level.key += 1
            elif level.bracket == "{":
                level.key = None
        elif (
            word.endswith(":")
            and candidate is not None
            and level is not None
            and level.bracket == "{"
            and level.key is None
        ):
            level.key = candidate
            keys = [each.key for each in levels if each.key is not None]
            found.append(Field(tuple(keys), line, []))
        candidate = None
        if kind == "string":
            candidate = word[1:-1]
        elif kind == "name":
            candidate = word
    return found


def _tokens(source: str) -> Iterator[Tuple[str, str, int]]:
    line = 1
    for match in _TOKEN.finditer(source):
        if match.lastgroup != "skipped":
            yield str(match.lastgroup), match[0], line
        line += match[0].count("\n")


def line_of(path: Path, config: Any, fields: List[Field]) -> Optional[int]:
    """
    Return the line of a path in the config, or else of the nearest key around it. In the file, a
    key may have only some of the path's names around it, as a function or a `local` may supply the
    rest; the key with the most wins. Return `None` if there is no such key, or several.
    """
    for end in range(len(path), 0, -1):
        wanted = path[:end]
        value = _value_at(wanted, config)
        if value is _MISSING:
            continue
        if isinstance(wanted[-1], str):
            fitting = _fitting(wanted, value, fields)
            if fitting:
                return fitting[0].line if len(fitting) == 1 else None
        elif isinstance(value, dict):  # in a list: its keys tell its line
            lines = [_fitting((*wanted, key), each, fields) for key, each in value.items()]
            found = [line[0].line for line in lines if len(line) == 1]
            if found:
                return min(found)
    return None


_MISSING = object()


def _value_at(path: Path, config: Any) -> Any:
    for key in path:
        try:
            config = config[key]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return config


def _fitting(path: Path, value: Any, fields: List[Field]) -> List[Field]:
    """Return the keys that match a path, with the most names around them."""
    fitting = [
        each
        for each in fields
        if each.path[-1] == path[-1] and _is_within(each.path, path) and each.may_be(value)
    ]
    most = max((len(each.path) for each in fitting), default=0)
    return [each for each in fitting if len(each.path) == most]


def _is_within(some: Path, path: Path) -> bool:
    """Return whether the keys are in the path in the same order."""
    rest = iter(path)
    return all(key in rest for key in some)
