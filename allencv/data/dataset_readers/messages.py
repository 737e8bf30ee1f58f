"""Text that the errors and warnings of all readers share."""

import reprlib
from typing import Any, Sequence

from allencv.common.data_paths import KEYS as KEYS

_cut = reprlib.Repr()
_cut.maxstring = _cut.maxother = 80
_cut.repr_bytes = _cut.repr_str  # type: ignore[attr-defined]


def some(names: Sequence[str]) -> str:
    """Return the first ten names and the number of the others."""
    shown = ", ".join(names[:10]) or "nothing"
    # A name in an unknown encoding can be read, but not logged.
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def cut(value: Any) -> str:
    """Return the `repr` of a value, shortened in the middle if it is long."""
    return _cut.repr(value)
