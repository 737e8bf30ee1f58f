"""Find the column of a table that assigns rows to training, validation, test, calibration."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.cells import to_flag
from allencv.data.dataset_readers.messages import some
from allencv.data.split_names import part_in, part_of
from allencv.fitting.label_columns import ONE_LABEL, SEVERAL_LABELS
from allencv.fitting.options import NO_COLUMN, TableColumns

PLAIN_NAMES = ("split", "splits", "data_split", "train_test", "train_val", "train_val_test")
"""Names of columns that mean splits, whatever their cells are."""
NAMES = ("subset", "set", "partition", "phase", "usage", "dataset", "data_set")
FLAGS = {
    "validation": ("train", "validation"),
    "test": ("train", "test"),
    "train": ("test", "train"),
}
"""The parts for 0 and 1, by the part in the column's name: is_valid, is_training_img."""
FLAG_NAME = re.compile("(is|in|for).*|train", re.IGNORECASE)
"""The names of columns that are such flags by default."""


@dataclass
class FoundSplits:
    column: str
    values: Dict[str, str]
    """The column's words for those of "train", "validation", "test", "calibration" that it has."""
    note: str


def find_splits(
    file: str, cells: Dict[str, List[str]], given: TableColumns
) -> Optional[FoundSplits]:
    """
    Return the column that the user names, or one whose name and cells mean splits, or whose cells
    are all words for splits, or `None`.

    # Raises

    `ConfigurationError` if the column has other words too, or no training rows, or if there are
    several such columns.
    """
    if given.split_column == NO_COLUMN:
        return None
    if given.split_column is not None:
        return _in_column(file, given.split_column, cells[given.split_column])
    names = [name for name in cells if _speaks_of_splits(name, cells[name])]
    if len(names) > 1:
        raise ConfigurationError(
            f"{file}: the splits may be in any of the columns {some(names)}; choose one with "
            "--split-column, or ignore them with --split-column none"
        )
    for name in names:
        _check_no_label(file, name, cells, given)
        return _in_column(file, name, cells[name])
    return None


def _speaks_of_splits(name: str, cells: List[str]) -> bool:
    """Return whether the name and some cells mean splits, or all cells do."""
    words = {cell.strip() for cell in cells}
    if (
        FLAG_NAME.fullmatch(name)
        and part_in(name)
        and all(to_flag(word) is not None for word in words)
    ):
        return True
    parts = {part_of(word) for word in words}
    plain_name = re.sub("[^a-z]+", "_", name.lower())
    if plain_name in PLAIN_NAMES:
        return words != {""}
    if plain_name in NAMES:
        return parts != {None}
    is_label = name.lower() in ONE_LABEL + SEVERAL_LABELS
    return not is_label and "train" in parts and None not in parts and len(parts) > 1


def _check_no_label(file: str, name: str, cells: Dict[str, List[str]], given: TableColumns) -> None:
    """Raise an error if a column train of 0 and 1 may mean trains in the images."""
    if part_in(name) != "train" or given.label_column is not None:
        return
    flags = [each for each in cells if all(to_flag(cell) is not None for cell in set(cells[each]))]
    has_label = any(each.lower() in ONE_LABEL + SEVERAL_LABELS for each in cells)
    if name in flags and len(flags) > 1 and not has_label:
        raise ConfigurationError(
            f"{file}: column {name} is ambiguous: if it has the splits, use --split-column "
            f"{name}; if it is a label, as {some([each for each in flags if each != name])} may "
            "be, use --split-column none"
        )


def _in_column(file: str, name: str, cells: List[str]) -> FoundSplits:
    counts = Counter(cell.strip() for cell in cells)
    flags = FLAGS.get(part_in(name) or "")
    values: Dict[str, List[str]] = {}
    others = []
    for value in counts:
        flag = to_flag(value)
        part = flags[flag] if flags and flag is not None else part_of(value)
        values.setdefault(part, []).append(value) if part else others.append(value)
    if others or "train" not in values or any(len(of_part) > 1 for of_part in values.values()):
        raise ConfigurationError(
            f"{file}: column {name} has the values {some(sorted(map(repr, counts)))}; expected "
            "one word for each split: train, val, test; choose another column with "
            "--split-column, or ignore it with --split-column none"
        )
    found = {part: value for part, (value,) in values.items()}
    shown = ", ".join(
        f"{value} {counts[value]}" if part_of(value) else f"{part} {counts[value]} ({value})"
        for part, value in found.items()
    )
    return FoundSplits(name, found, f"splits: column {name}, {shown} (--split-column)")
