"""Find the labels in a table, and whether an image has one or several."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.cells import as_list, is_word_for_missing, to_flag
from allencv.data.dataset_readers.messages import cut, some
from allencv.fitting.options import MULTI, SINGLE, TableColumns
from allencv.runtime.plurals import numbered

ONE_LABEL = ("label", "class", "category", "target", "species", "class_name", "label_name")
SEVERAL_LABELS = ("labels", "classes", "categories", "tags", "genres", "tag", "genre")
"""Names of label columns: for one label per image, and for any number."""
DELIMITERS = ("|", ";", ",", " ")
NOT_IN_WORDS = ("|", ";")
ENOUGH = 20
"""From this number of rows on, labels must have two rows each on average."""
FEW = 0.1
"""A smaller share of rows with several labels may be mistakes."""


@dataclass
class FoundLabels:
    arguments: Dict[str, Any]
    """Arguments of the reader."""
    columns: Sequence[str]
    note: str


def find_labels(file: str, cells: Dict[str, List[str]], given: TableColumns) -> FoundLabels:
    """
    Find the labels in one column, or in several columns of 0 and 1. The user's options come first,
    then the names of the columns, then their cells.

    # Raises

    `ConfigurationError` if the columns are ambiguous.
    """
    if given.label_column is not None:
        return _in_column(file, given.label_column, cells[given.label_column], given)
    named = [name for name in cells if name.lower() in ONE_LABEL + SEVERAL_LABELS]
    flags = [name for name in cells if all(to_flag(cell) is not None for cell in set(cells[name]))]
    asks_for_flags = given.task == MULTI and given.label_delimiter is None
    if len(named) == 1 and not (asks_for_flags and set(named) < set(flags)):
        return _in_column(file, named[0], cells[named[0]], given)
    if len(flags) > 1 and (asks_for_flags or not named):
        return _in_flags(file, {name: cells[name] for name in flags}, cells, given)
    candidates = named or [name for name in cells if not _is_of_row_numbers(name, cells[name])]
    if len(candidates) != 1:
        shown = [f"{name} ({cut(cells[name][0])}, ...)" for name in candidates]
        if not shown:
            raise ConfigurationError(
                f"{file} has no column for the labels beside those of the images and the splits; "
                "expected one, or other columns with --image-column and --split-column, or a "
                "folder as DATA if the names of its folders are the labels"
            )
        raise ConfigurationError(
            f"{file}: the labels may be in any of {some(shown)}; expected --label-column"
        )
    return _in_column(file, candidates[0], cells[candidates[0]], given)


def _is_of_row_numbers(name: str, cells: List[str]) -> bool:
    """Return whether a column counts the rows, as pandas' index does."""
    is_index = not name or name.startswith("Unnamed: ")
    return is_index or any(
        cells[0] == str(first) and all(cell == str(n) for n, cell in enumerate(cells, first))
        for first in (0, 1)
        if len(cells) > 2
    )


def _in_flags(
    file: str, flags: Dict[str, List[str]], cells: Dict[str, List[str]], given: TableColumns
) -> FoundLabels:
    rows = list(zip(*(map(to_flag, of_name) for of_name in flags.values())))
    wrong = next((number for number, row in enumerate(rows, 1) if row.count(True) != 1), None)
    if given.task == SINGLE and wrong is not None:
        raise ConfigurationError(
            f"--task is single; row {wrong} of {file} has {rows[wrong - 1].count(True)} of the "
            f"labels {some(list(flags))}; expected one in each row, or --label-column"
        )
    arguments: Dict[str, Any] = {"label_columns": "*"}
    ignored = sorted(cells.keys() - flags.keys())
    if ignored:
        arguments["ignore_columns"] = ignored
    where = f"the {len(flags)} columns of 0 and 1: {some(list(flags))} (--label-column)"
    if given.task == MULTI or wrong is not None:
        return FoundLabels(
            arguments, list(flags), f"labels: {where}; any number per image (--task)"
        )
    arguments["one_hot"] = True
    note = f"label: {where}; one per image, as each row has exactly one 1 (--task)"
    return FoundLabels(arguments, list(flags), note)


def _in_column(file: str, name: str, cells: List[str], given: TableColumns) -> FoundLabels:
    labels = [cell.strip() for cell in cells if cell.strip()]
    if given.missing_labels != "keep":  # the reader raises an error for them, or skips them
        labels = [label for label in labels if not is_word_for_missing(label)]
    counts = Counter(labels)
    if not counts:
        raise ConfigurationError(f"{file}: column {name} is empty; expected --label-column")
    single = FoundLabels(
        {"label_column": name},
        [name],
        f"label: column {name}, {numbered(len(counts), 'class')} (--label-column); one per image "
        "(--task)",
    )
    if given.task == SINGLE:
        return single
    if any(as_list(cell) is not None or re.fullmatch(r"\[[^][]*\]", cell) for cell in counts):
        note = f"labels: column {name}, lists of labels (--label-column); any number per image"
        return FoundLabels({"labels_column": name}, [name], note)
    if given.label_delimiter is not None:
        return _several(name, given.label_delimiter)
    if given.task == MULTI:
        having = Counter({each: sum(each in cell for cell in counts) for each in DELIMITERS})
        ((delimiter, _),) = having.most_common(1)
        return _several(name, delimiter)
    _check_numbers(file, name, counts)
    is_named = name.lower() in SEVERAL_LABELS
    for delimiter in DELIMITERS:
        reading = _Reading(counts, delimiter)
        if not reading.several:
            continue
        if is_named and delimiter != " ":
            return _several(name, delimiter)
        is_combined = reading.is_combined and (reading.is_varied or delimiter != " ")
        if is_combined and reading.is_varied and reading.share >= FEW and delimiter != " ":
            return _several(name, delimiter)
        # Commas and spaces also separate the words of one label.
        if is_combined or delimiter in NOT_IN_WORDS or (is_named and reading.recurs):
            raise ConfigurationError(
                f"{file}: column {name} is ambiguous: if an image has one label "
                f"({numbered(len(counts), 'class')}, such as {cut(reading.several[0])}), use "
                f"--task single; if it has several ({numbered(len(reading.labels), 'label')}, such "
                f"as {cut(sorted(reading.labels)[0])}), use --task multi --label-delimiter "
                f"{delimiter!r}"
            )
    _check_classes(file, name, counts)
    return single


def _several(name: str, delimiter: str) -> FoundLabels:
    arguments = {"labels_column": name, "labels_delimiter": delimiter}
    note = f"labels: column {name}, {delimiter!r} between them (--label-column, --label-delimiter)"
    return FoundLabels(arguments, [name], f"{note}; any number per image (--task)")


class _Reading:
    """The cells of a column, read as several labels separated by a delimiter."""

    def __init__(self, counts: "Counter[str]", delimiter: str) -> None:
        parts: Dict[str, Set[str]] = {
            cell: {part.strip() for part in cell.split(delimiter)} - {""} for cell in counts
        }
        self.several = [cell for cell in counts if len(parts[cell]) > 1]
        self.share = sum(counts[cell] for cell in self.several) / counts.total()
        cells_with = Counter(part for each in parts.values() for part in each)
        self.labels = set(cells_with)
        self.recurs = any(cells_with[p] > 1 for cell in self.several for p in parts[cell])
        recurring = [cell for cell in self.several if all(cells_with[p] > 1 for p in parts[cell])]
        # Labels recur in other combinations more often than the words of one label.
        self.is_combined = len(recurring) * 2 > len(self.several)
        self.is_varied = len({len(each) for each in parts.values()}) > 1


def _check_numbers(file: str, name: str, counts: "Counter[str]") -> None:
    """Raise an error for fractions, and for numbers that hardly recur."""
    numbers = [_number(label) for label in counts]
    is_fractional = any(number is not None and number != int(number) for number in numbers)
    if None in numbers or len(counts) < 3 or not (is_fractional or _hardly_recur(counts)):
        return
    raise ConfigurationError(
        f"{file}: column {name} has {len(counts)} different numbers in {counts.total()} rows, such "
        f"as {some(list(counts)[:3])}; AllenCV predicts classes, not numbers: choose another "
        "column with --label-column, or take each number as a class with --task single"
    )


def _check_classes(file: str, name: str, counts: "Counter[str]") -> None:
    """Raise an error for texts that hardly recur, such as captions."""
    if not _hardly_recur(counts):
        return
    examples = some([cut(label) for label in list(counts)[:3]])
    raise ConfigurationError(
        f"{file}: column {name} has {len(counts)} different texts in {counts.total()} rows, such "
        f"as {examples}; expected classes, with several images each: choose another column with "
        "--label-column, or take each text as a class with --task single"
    )


def _hardly_recur(counts: "Counter[str]") -> bool:
    rows = counts.total()
    return len(counts) == rows > 2 or (len(counts) * 2 > rows and rows >= ENOUGH)


def _number(text: str) -> Optional[float]:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
