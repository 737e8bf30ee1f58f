"""Find the columns of images, labels and splits in a table."""

import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.cells import is_empty
from allencv.data.dataset_readers.messages import cut, some
from allencv.data.dataset_readers.tables import Table, open_table
from allencv.data.remote import is_remote
from allencv.fitting.label_columns import find_labels
from allencv.fitting.options import TableColumns
from allencv.fitting.split_column import find_splits
from allencv.runtime.image_files import FOLDERS_OF_OTHER_PROGRAMS
from allencv.runtime.images import is_named_as_image

__all__ = ["FoundTable", "TableColumns", "find_columns"]

LOOKED_AT = 50
"""How many paths of a column are checked, evenly spaced over its rows."""
IMAGE_NAMES = (
    *("image", "images", "img", "image_path", "img_path", "image_file", "image_name", "photo"),
    *("path", "file", "file_name", "filename", "filepath", "file_path", "image_id", "id"),
)
IMAGE_FOLDERS = ("images", "image", "img", "imgs", "train", "photos")
SUFFIXES = ("", ".jpg", ".jpeg", ".png", ".webp")
DELIMITERS = ",;\t|"

Cells = Dict[str, List[str]]
"""The text of each column's cells, in the order of the rows."""


@dataclass
class FoundTable:
    reader: Dict[str, Any]
    """Type and arguments of the reader."""
    splits: Dict[str, str] = field(default_factory=dict)
    """The split column's words for those of "train", "validation" and "test" that it has."""
    notes: List[str] = field(default_factory=list)
    """What was found, with the options that override it."""


class Place(NamedTuple):
    """Where the images of a column are."""

    column: str
    suffix: str
    root: Optional[str]
    """A folder, or `None` for the table's folder."""

    def arguments(self) -> Dict[str, Any]:
        arguments: Dict[str, Any] = {"image_column": self.column}
        if self.suffix:
            arguments = {"image_pattern": f"{{{self.column}}}{self.suffix}"}
        return arguments if self.root is None else {**arguments, "image_root": self.root}


def find_columns(file: str, given: TableColumns) -> FoundTable:
    """
    Return the reader for a table. Image paths may be relative to the table or to a folder beside
    it. The user's options come first, then the names of the columns, then their cells.

    # Raises

    `ConfigurationError` if no column has existing images, or if the labels or the task are
    ambiguous.
    """
    table = _open(file, given)
    cells = _cells(table)
    if not next(iter(cells.values())):
        raise ConfigurationError(f"{file} has no row; expected one for each image")
    for key in ("image_column", "label_column", "split_column"):
        name = getattr(given, key)
        if name is not None and name not in cells and (key, name) != ("split_column", "none"):
            option = f"--{key.replace('_', '-')}"
            raise ConfigurationError(f"{option} is {name!r}; {file} has {', '.join(cells)}")

    reader: Dict[str, Any] = {"type": "image_table"}
    if given.encoding is not None:
        reader["encoding"] = given.encoding
    notes = []
    if table.delimiter is not None and table.delimiter != _usual_delimiter(file):
        reader["delimiter"] = table.delimiter
        notes.append(f"cells: {table.delimiter!r} between them (--delimiter)")
    places = _find_images(file, cells, given)
    place = places[0]
    reader |= place.arguments()
    where = f" in {place.root}" if place.root is not None else ""
    also = f"; also in {some([p.column for p in places[1:]])}" if places[1:] else ""
    shown = f"{{{place.column}}}{place.suffix}" if place.suffix else f"column {place.column}"
    notes.append(f"images: {shown}{where} (--image-column, --image-root){also}")

    splits = find_splits(file, _without(cells, place.column, given.label_column), given)
    split_column = None if splits is None else splits.column
    labels = find_labels(file, _without(cells, place.column, split_column), given)
    reader |= labels.arguments
    if given.missing_labels is not None:
        reader["missing_labels"] = given.missing_labels
    notes.append(labels.note)
    if splits is not None:
        reader["split_column"] = splits.column
        notes.append(splits.note)
    unused = list(filter(None, _without(cells, place.column, split_column, *labels.columns)))
    if unused:
        notes.append(f"columns that are not used: {some(unused)}")
    return FoundTable(reader, splits.values if splits else {}, notes)


def _without(cells: Cells, *columns: Optional[str]) -> Cells:
    return {name: of_name for name, of_name in cells.items() if name not in columns}


def _usual_delimiter(file: str) -> str:
    return "\t" if ".tsv" in file.lower() else ","


def _open(file: str, given: TableColumns) -> Table:
    """Open the table, with another delimiter if the usual one gives a single column."""
    if given.delimiter is not None and len(given.delimiter) != 1:
        raise ConfigurationError(
            f"--delimiter is {given.delimiter!r}; expected one character, such as ';'"
        )
    encoding = given.encoding or "utf-8"
    table = open_table(file, None, given.delimiter, encoding)
    if given.delimiter is None and table.delimiter is not None and len(table.columns) == 1:
        other = next((each for each in DELIMITERS if each in table.columns[0]), None)
        if other is not None:
            table = open_table(file, None, other, encoding)
    return table


def _cells(table: Table) -> Cells:
    """Read all cells. Equal texts are one object, to save memory; empty cells are ""."""
    texts: Dict[str, str] = {}
    columns: List[List[str]] = [[] for _ in table.columns]
    for _, row in table.rows(table.columns):
        for column, cell in zip(columns, row):
            text = "" if is_empty(cell) else str(cell)
            column.append(texts.setdefault(text, text))
    return dict(zip(table.columns, columns))


def _find_images(file: str, cells: Cells, given: TableColumns) -> List[Place]:
    """Return where the images are, the likeliest column first."""
    beside = os.path.dirname(file)
    roots: List[Optional[str]] = [given.image_root]
    if given.image_root is None:
        roots += _folders_beside(beside)
    _check_header(file, cells, [root or beside for root in roots])
    if given.image_column is not None and _are_urls(cells[given.image_column]):
        return [Place(given.image_column, "", given.image_root)]
    names = [given.image_column] if given.image_column is not None else list(cells)
    names.sort(key=lambda name: name.lower() not in IMAGE_NAMES)
    places = [_place(name, cells[name], beside, roots) for name in names]
    found = [place for place in places if place is not None]
    if found:
        return found
    for name in names:
        windows = next(
            (cell for cell in cells[name] if "\\" in cell and is_named_as_image(cell)), None
        )
        if windows is not None:
            raise ConfigurationError(
                f"{file}: the paths in column {name} have backslashes between folders, such as "
                f"'{windows}'; expected '/', and paths relative to the table or to --image-root: "
                "replace them in the table"
            )
    for name in names:
        if _are_urls(cells[name]):
            raise ConfigurationError(
                f"{file}: column {name} has URLs, such as {next(filter(None, cells[name]))!r}; "
                f"--image-column {name} reads the images from them"
            )
    where = " or ".join(root or beside or "." for root in roots[:3])
    expected = "--image-column and --image-root"
    if len(cells) == 1 and not is_named_as_image(cells[names[0]][0]):
        expected += ", or --delimiter for the separator of the cells"
    paths = (cell for name in names for cell in cells[name] if is_named_as_image(cell))
    example = next((f", such as {cut(path)}" for path in paths), "")
    raise ConfigurationError(
        f"{file}: no column of {', '.join(names)} has paths of images that exist{example}, in "
        f"{where}; expected {expected}"
    )


def _folders_beside(folder: str) -> List[str]:
    """Return the folders beside a table, those with usual names first."""
    with os.scandir(folder or ".") as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.is_dir()
            and entry.name[0] != "."
            and entry.name.lower() not in FOLDERS_OF_OTHER_PROGRAMS
        )
    names.sort(key=lambda name: name.lower() not in IMAGE_FOLDERS)
    return [os.path.join(folder, name) for name in names[:20]]


def _check_header(file: str, cells: Cells, roots: List[str]) -> None:
    """Raise an error for a table without a header."""
    for name in filter(None, cells):
        files = (os.path.join(root, name + suffix) for root in roots for suffix in SUFFIXES)
        if is_named_as_image(name) or any(map(os.path.isfile, files)):
            raise ConfigurationError(
                f"{file}: the first line has the image '{name}'; expected a header, such as "
                "'image,label': add a line with the names of the columns"
            )


def _are_urls(cells: List[str]) -> bool:
    filled = list(filter(None, cells))
    return bool(filled) and all(map(is_remote, filled))


def _place(name: str, cells: List[str], beside: str, roots: List[Optional[str]]) -> Optional[Place]:
    looked_at = [cell for cell in cells[:: max(1, len(cells) // LOOKED_AT)] if cell]
    for root in roots:
        for suffix in SUFFIXES:
            paths = [os.path.join(root or beside, cell + suffix) for cell in looked_at]
            found = [path for path in paths if is_named_as_image(path) and os.path.isfile(path)]
            if len(found) * 2 > len(paths):
                return Place(name, suffix, root)
    return None
