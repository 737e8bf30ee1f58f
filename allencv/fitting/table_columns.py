"""Finds out which columns of a table are the images and which are labels."""

import os
from dataclasses import dataclass
from itertools import islice
from typing import Any, Dict, List, Optional, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.files import IMAGE_SUFFIXES, suffixes
from allencv.data.dataset_readers.tables import (
    DELIMITERS,
    FORMATS,
    Table,
    read_csv,
    read_json_lines,
    read_parquet,
)

ROWS = 200
"""How many rows are looked at."""
IMAGE_FOLDERS = ("", "images", "image", "img", "imgs", "train", "posters", "photos")
LABEL_NAMES = ("label", "labels", "class", "category", "target", "species", "tags", "genre")
DELIMITERS_OF_LABELS = ("|", ";", ",", " ")
NO_PART_OF_A_LABEL = ("|", ";")
BINARY = {"0", "1", "0.0", "1.0", "True", "False", "true", "false"}


@dataclass
class TableColumns:
    """What the user says about a table; what is `None` is found out."""

    image_column: Optional[str] = None
    label_column: Optional[str] = None
    image_root: Optional[str] = None


def find_columns(file: str, given: TableColumns) -> Tuple[Dict[str, Any], str]:
    """
    The reader for a table, and in words what was found. Paths of images are relative to the table,
    or to a folder beside it, which is tried.

    # Raises

    `ConfigurationError` if no column has images that are there, or the labels are not plain to see.
    """
    table = _open(file)
    rows = [[str(cell) for cell in cells] for _, cells in islice(table.rows(table.columns), ROWS)]
    if not rows:
        raise ConfigurationError(f"{file} has no row; expected one for each image")
    cells = {name: [row[i] for row in rows] for i, name in enumerate(table.columns)}
    for key, name in (
        ("--image-column", given.image_column),
        ("--label-column", given.label_column),
    ):
        if name is not None and name not in cells:
            raise ConfigurationError(f"{key} is {name!r}; {file} has {', '.join(cells)}")

    image_column, pattern, root = _find_images(file, cells, given)
    reader: Dict[str, Any] = {"type": "image_table"}
    reader |= {"image_column": image_column} if pattern is None else {"image_pattern": pattern}
    if root is not None:
        reader["image_root"] = root
    others = {name: of_name for name, of_name in cells.items() if name != image_column}
    labels, note = _find_labels(file, others, given.label_column)
    where = f" in {root}" if root is not None else ""
    return reader | labels, f"images: {pattern or f'column {image_column}'}{where}; {note}"


def _open(file: str) -> Table:
    format = FORMATS[suffixes(file)[0]]
    if format == "parquet":
        return read_parquet(file)
    if format == "jsonl":
        return read_json_lines(file, "utf-8")
    return read_csv(file, DELIMITERS[format], "utf-8")


def _find_images(
    file: str, cells: Dict[str, List[str]], given: TableColumns
) -> Tuple[str, Optional[str], Optional[str]]:
    """The column, the pattern if its cells are not yet paths, and the root if it is another."""
    beside = os.path.dirname(file)
    roots = [os.path.join(beside, name) for name in IMAGE_FOLDERS]
    if given.image_root is not None:
        roots = [given.image_root]
    names = [given.image_column] if given.image_column is not None else list(cells)
    for name in names:
        for root in roots:
            for suffix in ("", ".jpg", ".jpeg", ".png", ".webp"):
                paths = [os.path.join(root, cell + suffix) for cell in cells[name][:20]]
                has_suffix = os.path.splitext(paths[0])[1].lower() in IMAGE_SUFFIXES
                if has_suffix and sum(map(os.path.isfile, paths)) * 2 > len(paths):
                    pattern = f"{{{name}}}{suffix}" if suffix else None
                    return name, pattern, None if root in (beside, beside + "/") else root
    raise ConfigurationError(
        f"{file}: no column of {', '.join(names)} has paths of images that are there, in "
        f"{' or '.join(sorted({os.path.dirname(root + '/') or '.' for root in roots})[:3])}; "
        "expected --image-column and --image-root"
    )


def _find_labels(
    file: str, cells: Dict[str, List[str]], given: Optional[str]
) -> Tuple[Dict[str, Any], str]:
    if given is None:
        binary = [name for name, of_name in cells.items() if set(of_name) <= BINARY]
        if len(binary) > 1:
            ignored = sorted(cells.keys() - set(binary))
            reader: Dict[str, Any] = {"label_columns": "*"}
            if ignored:
                reader["ignore_columns"] = ignored
            return reader, f"labels: the {len(binary)} columns of 0 and 1"
        named = [name for name in cells if name.lower() in LABEL_NAMES]
        candidates = named or list(cells)
        if len(candidates) != 1:
            raise ConfigurationError(
                f"{file}: the labels may be in any of {', '.join(cells) or 'no column'}; expected "
                "--label-column"
            )
        given = candidates[0]
    for delimiter in DELIMITERS_OF_LABELS:
        parts = [cell.split(delimiter) for cell in cells[given]]
        several = sum(len(part) > 1 for part in parts)
        # Labels recur; the words of one that has several do so less.
        distinct = len({part.strip() for each in parts for part in each})
        is_plain = delimiter in NO_PART_OF_A_LABEL or distinct < len(set(cells[given]))
        if several * 10 > len(parts) and is_plain:
            reader = {"labels_column": given, "labels_delimiter": delimiter}
            return reader, f"labels: several in column {given}, with {delimiter!r} between them"
    return {"label_column": given}, f"label: column {given}"
