"""Checks of JSON from untrusted files."""

import sys
from typing import Any, Callable, Dict, Tuple

from allencv.runtime.errors import BundleError

Check = Tuple[Callable[[Any], bool], str]
"""A test of a value, and the expected value in words."""


def check_items(file: str, place: str, content: Any, checks: Dict[str, Check]) -> None:
    """Raise unless `content` has exactly the keys of `checks`, each with a good value."""
    if not isinstance(content, dict):
        raise BundleError(f"{file}: {place[:-1]} is {content!r:.80}; expected a JSON object")
    for key in content:
        if key not in checks:
            raise BundleError(
                f"{file}: unknown key {place + key!r:.80}; expected {', '.join(checks)}"
            )
    for key, (is_good, expected) in checks.items():
        if key not in content:
            raise BundleError(f"{file}: '{place}{key}' is missing; expected {expected}")
        if not is_good(content[key]):
            raise BundleError(f"{file}: {place}{key} is {content[key]!r:.80}; expected {expected}")


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def is_number(value: Any) -> bool:
    """Return whether it is a finite number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def is_list(value: Any, is_good: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(is_good, value))


def one_of(*choices: str) -> Check:
    return (lambda value: is_text(value) and value in choices), f"one of {', '.join(choices)}"
