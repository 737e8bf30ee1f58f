"""Write values as jsonnet, in the style of the shipped configs."""

import json
import re
import textwrap
from typing import Any, Iterable, List, Mapping, Optional, Tuple

WIDTH = 92
"""The longest line in characters. Longer objects and lists get a line for each value."""
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RESERVED = re.compile(
    "assert|else|error|false|for|function|if|import|importstr|importbin|in|local|null|self|super|"
    "tailstrict|then|true"
)
"""Words of jsonnet that cannot be keys without quotes."""


def to_jsonnet(value: Any, comments: Optional[Mapping[str, str]] = None) -> str:
    """
    Return a JSON value as jsonnet: keys without quotes, and short values on one line. It evaluates
    to the same value.

    # Parameters

    value : `Any`, required
    comments : `Mapping[str, str]`, optional (default = `None`)
        The comments above keys, each by the path of its key, such as "trainer.optimizer".
    """
    return "\n".join(_lines("", value, "", WIDTH, comments or {}))


def _lines(
    start: str, value: Any, place: str, width: int, comments: Mapping[str, str]
) -> List[str]:
    """Return the lines of a value after `start`. `place` begins the paths of its keys."""
    short = start + _inline(value)
    has_comments = any(path.startswith(place) for path in comments)
    fits = len(short) < width and not has_comments  # with a comma
    if fits or not value or not isinstance(value, (dict, list)):
        return [short]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    items: Iterable[Tuple[Any, Any]]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    lines: List[str] = []
    for key, each in items:
        lines += _comment(comments.get(f"{place}{key}", ""), width - 2)
        name = f"{_key(key)}: " if isinstance(key, str) else ""
        lines += _lines(name, each, f"{place}{key}.", width - 2, comments)
        lines[-1] += ","
    return [f"{start}{opening}", *(f"  {line}" for line in lines), closing]


def _comment(text: str, width: int) -> List[str]:
    return textwrap.wrap(
        " ".join(text.split()),
        width,
        initial_indent="// ",
        subsequent_indent="// ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        fields = ", ".join(f"{_key(key)}: {_inline(each)}" for key, each in value.items())
        return f"{{ {fields} }}" if fields else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    is_name = _NAME.fullmatch(key) and not _RESERVED.fullmatch(key)
    return key if is_name else json.dumps(key, ensure_ascii=False)
