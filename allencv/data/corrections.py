"""
The answers of a person to images: a CSV file that `allencv review` writes and the reader
`corrected` reads. It has one row for each image; one that was skipped may have another one later.
"""

import csv
import io
import json
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.files import read_bytes
from allencv.data.dataset_readers.messages import cut

LABEL, NONE, SKIP = "label", "none", "skip"
ANSWERS = (LABEL, NONE, SKIP)
"""The image has the label in the next column; it belongs to none of the labels; no answer yet."""
SINGLE, SEVERAL = "label", "labels"
"""The column of the answer if each image has one label, and if it may have several."""

Labels = Tuple[str, ...]
"""The labels of an image: one, or any number of labels if images may have several."""


class Correction(NamedTuple):
    """
    The answer to an image.

    # Parameters

    path : its absolute path, or its URL.
    answer : one of `ANSWERS`.
    labels : of the answer "label"; otherwise empty.
    previous : the labels that the image had, or `None` if it had no label.
    time : of the answer, in UTC and ISO 8601.
    """

    path: str
    answer: str
    labels: Labels
    previous: Optional[Labels]
    time: str


class Corrections(NamedTuple):
    """
    What a file of corrections holds.

    # Parameters

    multi_label : whether an image may have several labels, or none.
    columns : those of the file, in their order. A person may have added some.
    of_images : the answer to each image by its `image_key`, in the order of the file.
    """

    multi_label: bool
    columns: List[str]
    of_images: Dict[str, Correction]


def columns(multi_label: bool) -> List[str]:
    """Return the columns of a file of corrections."""
    return ["path", "answer", SEVERAL if multi_label else SINGLE, "previous", "time"]


def image_key(path: str, folder: str = "") -> str:
    """Return the absolute path of an image file, which may be relative to `folder`; or its URL."""
    path = remote.join(folder, path)
    return path if remote.is_remote(path) else os.path.abspath(path)


def source_key(source: object) -> Optional[str]:
    """Return the `image_key` of the image of a `Sample`, or `None` if it has no path."""
    if isinstance(source, (str, os.PathLike)):
        return image_key(os.fspath(source))
    # Images in shards, behind URLs and in datasets say where they are.
    return image_key(str(source)) if callable(source) else None


def as_row(correction: Correction, folder: str, columns: Sequence[str]) -> str:
    """Return the line of a correction in a file with these columns that is in `folder`."""
    multi_label = _has_several(columns)
    path = correction.path
    if not remote.is_remote(path):
        path = os.path.relpath(path, os.path.abspath(folder))
    labels = _as_cell(correction.labels, multi_label) if correction.answer == LABEL else ""
    previous = "" if correction.previous is None else _as_cell(correction.previous, multi_label)
    cells = {"path": path, "answer": correction.answer, "previous": previous}
    cells |= {SEVERAL if multi_label else SINGLE: labels, "time": correction.time}
    return as_line([cells.get(column, "") for column in columns])


def as_line(cells: List[str]) -> str:
    """Return a line of CSV, with its end."""
    line = io.StringIO()
    # Cells with either of these characters get quotes.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return f"{line.getvalue()[:-2]}\n"


def read_corrections(path: str, key: str) -> Corrections:
    """
    Read a file of corrections.

    # Parameters

    path : the file.
    key : the config key or the option that names the file, for errors.

    # Raises

    `ConfigurationError`, with the line, if the file cannot be read, lacks a column, has a cell that
    is not as expected, or has two answers to an image.
    """
    data = read_bytes(path, key)
    # A path may have bytes that are not UTF-8, as on the disk.
    text = data.decode("utf-8-sig", "surrogateescape")
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        named = list(rows.fieldnames or ())
        _check_columns(path, named)
        multi_label = _has_several(named)
        lines: Dict[str, int] = {}
        found: Dict[str, Correction] = {}
        for row in rows:
            place = f"{path}, line {rows.line_num}"
            correction = _parsed(place, path, row, multi_label)
            earlier = found.get(correction.path)
            if earlier is not None and earlier.answer != SKIP:
                raise ConfigurationError(
                    f"{place}: '{row['path']}' has an answer in line {lines[correction.path]}, "
                    "too; expected one answer to each image"
                )
            lines[correction.path] = rows.line_num
            found[correction.path] = correction
    except csv.Error as error:
        raise ConfigurationError(
            f"{path}, line {rows.reader.line_num}: {error}; expected CSV"
        ) from None
    return Corrections(multi_label, named, found)


def _has_several(found: Sequence[str]) -> bool:
    """Return whether an image may have several labels in a file with these columns."""
    return SINGLE not in found


def _check_columns(path: str, found: List[str]) -> None:
    if any(set(columns(multi_label)) <= set(found) for multi_label in (False, True)):
        return
    raise ConfigurationError(
        f"{path} has the columns {', '.join(found) or 'of no name'}; expected those of 'allencv "
        f"review': {', '.join(columns(False))} (or {SEVERAL} in place of {SINGLE})"
    )


def _parsed(place: str, file: str, row: Dict[str, str], multi_label: bool) -> Correction:
    if None in row.values() or None in row:
        raise ConfigurationError(f"{place}: too few or too many cells; expected one a column")
    column = SEVERAL if multi_label else SINGLE
    if not row["path"].strip():
        raise ConfigurationError(f"{place}: path is empty; expected the path of an image")
    if row["answer"] not in ANSWERS:
        raise ConfigurationError(
            f"{place}: answer is {cut(row['answer'])}; expected {', '.join(ANSWERS)}"
        )
    has_label = row["answer"] == LABEL
    if has_label != bool(row[column]):
        expected = f"a {column[:5]}" if has_label else "an empty cell"
        raise ConfigurationError(
            f"{place}: {column} is {cut(row[column])} and answer is {row['answer']!r}; expected "
            f"{expected}"
        )
    labels = _from_cell(place, column, row[column], multi_label) if has_label else ()
    previous = None
    if row["previous"]:
        previous = _from_cell(place, "previous", row["previous"], multi_label)
    key = image_key(row["path"], remote.parent(file))
    return Correction(key, row["answer"], labels, previous, row["time"])


def _as_cell(labels: Labels, multi_label: bool) -> str:
    if multi_label:
        return json.dumps(labels, ensure_ascii=False)
    (label,) = labels
    return label


def _from_cell(place: str, column: str, cell: str, multi_label: bool) -> Labels:
    if not multi_label:
        return (cell,)
    try:
        labels = json.loads(cell)
    except ValueError:
        labels = None
    if not isinstance(labels, list) or not all(isinstance(each, str) for each in labels):
        raise ConfigurationError(
            f'{place}: {column} is {cut(cell)}; expected a list of labels such as ["a", "b"]'
        )
    return tuple(labels)
