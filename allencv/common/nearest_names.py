"""Suggest the names that a wrong one may stand for."""

from difflib import get_close_matches
from typing import Any, Iterable, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError


def nearest_first(value: Any, names: Iterable[str]) -> Tuple[List[str], Optional[str]]:
    """Return the names, the three nearest to a value first; and the nearest, if any is near."""
    names = list(names)
    near = get_close_matches(str(value), names, n=3)
    return near + [name for name in names if name not in near], next(iter(near), None)


def not_one_of(
    key: str, value: Any, choices: Iterable[str], in_order: bool = False
) -> ConfigurationError:
    """
    Return the error for a `value` under a config `key` that is not in `choices`. The nearest come
    first, the others in alphabetical order, or as given if `in_order`.
    """
    names, _ = nearest_first(value, choices if in_order else sorted(choices))
    expected = f"one of {', '.join(names)}" if names else "nothing"
    return ConfigurationError(f"{key} is {value!r}; expected {expected}")
