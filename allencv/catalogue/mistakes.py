"""Mistakes in a config, in words."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional

from allencv.catalogue.parts import Part, Path
from allencv.common.nearest_names import nearest_first


@dataclass
class Mistake:
    """An error that training would refuse, or a probable mistake."""

    kind: str
    """
    "jsonnet", "unknown type", "unknown key", "missing key", "wrong type", "annotation", "lacks a
    method", "by position", "refused", "random validation" or "no test data".
    """
    path: Path
    message: str
    choices: List[str] = field(default_factory=list)
    """The possible names, if any, the nearest first."""
    nearest: Optional[str] = None
    line: Optional[int] = None
    is_warning: bool = False
    """Whether training continues nevertheless."""

    @property
    def key(self) -> str:
        return ".".join(map(str, self.path))

    def text(self, file: str) -> str:
        """Return the message with its place in the file."""
        line = "" if self.line is None else f":{self.line}"
        return f"{file}{line}: {'warning: ' if self.is_warning else ''}{self.message}"


def unknown_key(key: str, part: Part, path: Path, lacks_type: bool = False) -> Mistake:
    choices, nearest = nearest_first(key, [*part.in_config, *(["type"] if lacks_type else [])])
    what = part.cls.__name__ if path else "a config"
    if path and part.registry is not None:
        what = f"the {part.registry.__name__} '{part.name}'"
    text = f"{name_of((*path, key))} is not a key of {what}; "
    text += _expected(choices, nearest, _listed(choices)) if choices else f"{what} takes none"
    return Mistake("unknown key", (*path, key), text, choices, nearest)


def misspelt_type(key: str, path: Path, names: List[str]) -> Mistake:
    text = f"{name_of((*path, key))} is not a key here; did you mean type? Expected {some(names)}"
    return Mistake("unknown key", (*path, key), text, ["type"], "type")


def missing_key(
    path: Path, key: str, expected: str, choices: Optional[List[str]] = None
) -> Mistake:
    text = f"{name_of(path)} lacks {key}; expected {expected}"
    return Mistake("missing key", (*path, key), text, choices or [])


def wrong_choice(kind: str, path: Path, value: Any, known: List[str]) -> Mistake:
    choices, nearest = nearest_first(value, known)
    text = f"{name_of(path)} is {_shown(value)}; {_expected(choices, nearest, some(choices))}"
    return Mistake(kind, path, text, choices, nearest)


def _expected(choices: List[str], nearest: Optional[str], listed: str) -> str:
    if nearest is None:
        return f"expected {listed}"
    return f"did you mean {nearest}?" + (f" Expected {listed}" if len(choices) > 1 else "")


def name_of_network(path: Path, name: str, config: Dict[str, Any]) -> Mistake:
    """Return the mistake of a network's name in place of a part's, with the `config` for it."""
    text = (
        f"{name_of(path)} is {_shown(name)}, the name of a network; expected the name of a part, "
        f"and the network under a key of its own: {json.dumps(config)}"
    )
    return Mistake("unknown type", path, text, [config["type"]], config["type"])


def wrong_type(path: Path, value: Any, expected: str) -> Mistake:
    text = f"{name_of(path)} is {_shown(value)}; expected {expected}"
    return Mistake("wrong type", path, text)


def misread(path: Path, annotation: str, part: Part) -> Mistake:
    *_, key = path
    text = (
        f"{name_of(path)} is not built: AllenNLP does not understand the annotation '{annotation}' "
        f"of {key} in {part.path}, which would get a dict; expected a form such as "
        "Optional[X], List[X] or Dict[str, X], where X is imported and not a string"
    )
    return Mistake("annotation", path, text)


def refused(reason: str, config: Dict[str, Any], path: Path) -> Mistake:
    """
    Return a constructor's error, at the key that it names: the last key with a whole path, as that
    is the one to change, or else the first.
    """
    named = re.findall(re.escape(name_of(path)) + r"\.((?:\w+\.)*\w+)", reason)
    if named:
        return Mistake("refused", (*path, *named[-1].split(".")), reason)
    told = reason.rsplit("}: ", 1)[-1]  # without the arguments that some errors begin with
    keys = [word for word in re.findall(r"\w+", told) if word in config]
    return Mistake("refused", (*path, *keys[:1]), f"{name_of(path)}: {reason}")


def some(names: Iterable[str]) -> str:
    """List all names if they are few, else the first: those of optimizers fill a page."""
    known = list(names)
    return (
        _listed(known) if len(known) <= 25 else f"{_listed(known[:12])}, ... ({len(known)} in all)"
    )


def _listed(names: List[str]) -> str:
    return f"one of {', '.join(names)}"


def name_of(path: Path) -> str:
    return ".".join(map(str, path)) or "the config"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
