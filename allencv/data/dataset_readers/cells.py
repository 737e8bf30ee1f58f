"""Converts the cells of a table to paths and labels."""

import ast
import io
import tokenize
from itertools import pairwise
from string import Formatter
from typing import Any, Callable, List, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "False": False, "True": True}
"""0 and 1 as text, including pandas' spellings."""


_MISSING = {"nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "null", "nat"}
"""What programs write for a missing value, in lower case."""


class WrongCell(Exception):
    """An unexpected cell: its index among the given cells, and what was expected."""

    def __init__(self, place: int, expected: str) -> None:
        self.place = place
        self.expected = expected


def is_empty(value: Any) -> bool:
    """Return whether a cell is empty: None, blank text, or NaN."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def is_word_for_missing(value: Any) -> bool:
    """Return whether a cell holds a word such as NaN, which may mean a missing value."""
    return isinstance(value, str) and value.strip().lower() in _MISSING


def to_path(cells: Sequence[Any]) -> str:
    """Return the path of an image from the first cell."""
    if isinstance(cells[0], (bytes, dict)):
        raise WrongCell(0, 'the path of an image (the reader "huggingface" takes their bytes)')
    if is_empty(cells[0]) or not isinstance(cells[0], str):
        raise WrongCell(0, "the path of an image")
    return cells[0]


def to_label(cell: Any) -> str:
    if is_empty(cell) or isinstance(cell, (list, dict)):
        raise WrongCell(0, "a label")
    label = str(cell).strip()
    if as_list(label) is not None:
        raise WrongCell(0, "one label (labels_column reads lists)")
    return label


def to_labels(cell: Any, delimiter: Optional[str]) -> List[str]:
    """
    Return the labels in a cell: a list, a list written as text (as pandas does in CSV), or text
    with a delimiter between labels.
    """
    if is_empty(cell):
        return []
    parts = cell if isinstance(cell, list) else as_list(str(cell))
    if parts is None:
        text = str(cell).strip()
        if text[0] == "[" and text[-1] == "]" and not set("[]") & set(text[1:-1]):
            raise WrongCell(0, "quotes and commas in a list, such as ['a', 'b']")
        if delimiter is None:
            raise WrongCell(0, "a list, or text and dataset_reader.labels_delimiter")
        parts = text.split(delimiter)
    if any(isinstance(part, (list, dict)) for part in parts):
        raise WrongCell(0, "a list of text or numbers")
    if len(parts) > 1 and delimiter is None and all(to_flag(part) is not None for part in parts):
        raise WrongCell(0, "label names in the list, not 0s and 1s")
    labels = ["" if is_empty(part) else str(part).strip() for part in parts]
    if "" in labels or len(set(labels)) < len(labels):
        between = "" if delimiter is None else f" with {delimiter!r} between them"
        raise WrongCell(0, f"different labels{between}")
    return labels


def as_list(text: str) -> Optional[List[Any]]:
    """
    Return the list in a text with a Python or JSON list, `None` for any other text. Tuples and sets
    of strings count too.
    """
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "()", "{}"):
        return None
    try:
        value = None if _lacks_commas(text) else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    if isinstance(value, (tuple, set)) and value and all(isinstance(each, str) for each in value):
        return list(value) if isinstance(value, tuple) else sorted(value)
    return value if isinstance(value, list) else None


def _lacks_commas(text: str) -> bool:
    """Return whether two strings are adjacent, as in numpy's output: Python would join them."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    kinds = [token.type for token in tokens if token.type != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in pairwise(kinds))


def to_flag(cell: Any) -> Optional[bool]:
    """Return whether a cell is 1, or `None` if it is neither 0 nor 1."""
    return _FLAGS.get(str(cell).strip().title())


def chosen(labels: Sequence[str], flags: Sequence[Any]) -> Tuple[str, ...]:
    """Return the labels whose flag is 1; each flag is 0 or 1."""
    found = []
    for place, (label, flag) in enumerate(zip(labels, flags)):
        is_chosen = to_flag(flag)
        if is_chosen is None:
            raise WrongCell(place, "0 or 1")
        if is_chosen:
            found.append(label)
    return tuple(found)


def parse_pattern(pattern: str) -> Tuple[List[str], Callable[[Sequence[Any]], str]]:
    """Return the columns that a pattern names, and a function from their cells to a path."""
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise ConfigurationError(
            f"dataset_reader.image_pattern is {pattern!r}; expected a pattern: {error}"
        ) from None
    fields = [(name.strip(), spec or "") for _, name, spec, _ in parts if name is not None]
    if not fields or not all(name for name, _ in fields) or any(part[3] for part in parts):
        raise ConfigurationError(
            f"dataset_reader.image_pattern is {pattern!r}; expected names of columns in braces, "
            'such as "{Id}.jpg"'
        )

    def path(cells: Sequence[Any]) -> str:
        made = []
        for place, (cell, (_, spec)) in enumerate(zip(cells, fields)):
            if is_empty(cell):
                raise WrongCell(place, "a part of the path of an image")
            try:
                made.append(format(cell, spec))
            except (TypeError, ValueError) as error:
                raise WrongCell(place, f"a value that '{spec}' can format ({error})") from None
        cells_left = iter(made)
        return "".join(
            text + ("" if name is None else next(cells_left)) for text, name, _, _ in parts
        )

    return [name for name, _ in fields], path
