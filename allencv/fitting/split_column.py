"""Finds the column of a table that says which rows are for training, validation and test."""

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.cells import to_flag
from allencv.data.dataset_readers.messages import some
from allencv.fitting.options import NO_COLUMN, TableColumns
from allencv.fitting.split_names import part_of

NAMES = ("split", "splits", "subset", "set", "partition", "phase", "usage", "dataset", "data_set")
FLAGS = {
    "is_valid": ("train", "validation"),
    "is_val": ("train", "validation"),
    "is_validation": ("train", "validation"),
    "is_test": ("train", "test"),
}
"""Columns of 0 and 1, with the parts that 0 and 1 stand for."""


@dataclass
class FoundSplits:
    column: str
    values: Dict[str, str]
    """The column's words for "train", "validation" and "test", as far as they are there."""
    note: str


def find_splits(
    file: str, cells: Dict[str, List[str]], given: TableColumns
) -> Optional[FoundSplits]:
    """
    The column that the user names, or one whose name and cells speak of splits; `None` if there is
    none.

    # Raises

    `ConfigurationError` if the column has other words besides, or no rows to train on.
    """
    if given.split_column == NO_COLUMN:
        return None
    names = [name for name in cells if name.lower() in (*NAMES, *FLAGS)]
    for name in names if given.split_column is None else [given.split_column]:
        counts = Counter(cell.strip() for cell in cells[name])
        flags = FLAGS.get(name.lower())
        values: Dict[str, List[str]] = {}
        others = []
        for value in counts:
            flag = to_flag(value)
            part = flags[flag] if flags and flag is not None else part_of(value)
            values.setdefault(part, []).append(value) if part else others.append(value)
        if not values and given.split_column is None:
            continue  # it speaks of something else
        repeated = [value for of_part in values.values() if len(of_part) > 1 for value in of_part]
        if others or repeated or "train" not in values:
            raise ConfigurationError(
                f"{file}: column {name} has the values {some(sorted(map(repr, counts)))}; expected "
                "one word for each split: train, val, test (--split-column names another column, "
                "or 'none' to divide the rows by chance)"
            )
        shown = ", ".join(f"{value} {counts[value]}" for (value,) in values.values())
        note = f"splits: column {name}, {shown} (--split-column)"
        return FoundSplits(name, {part: value for part, (value,) in values.items()}, note)
    return None
