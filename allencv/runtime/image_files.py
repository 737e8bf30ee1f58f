"""List the images for a command from files, folders, patterns and tables."""

import csv
import glob
import os
from typing import Any, Collection, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from allencv.runtime.errors import InputError
from allencv.runtime.images import is_image
from allencv.runtime.json_files import parse_json
from allencv.runtime.regular_files import check_regular

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LISTS = (".txt",)
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
TABLES = (*DELIMITERS, *LISTS, *JSON_LINES, *PARQUET)
"""The suffixes of tables."""

FOLDERS_OF_OTHER_PROGRAMS = frozenset(
    {
        "@eadir",  # Synology: thumbnails
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "$recycle.bin",
        "__macosx",
        "system volume information",
        "lost+found",
        ".ipynb_checkpoints",
    }
)
"""The names, in lower case, of folders that other programs create among images."""

Cell = Tuple[int, object]
"""The number of a line or row, and its cell in the column of paths."""


class ImageFile(NamedTuple):
    """An image: its name as the user gives it, and the path of its file."""

    name: str
    file: str


class ImageFiles(NamedTuple):
    """
    The images, each once; the number named again; and skipped files that are not images.
    """

    images: List[ImageFile]
    repeated: int
    others: List[str]


def list_images(paths: Sequence[str], column: str) -> ImageFiles:
    """
    List the images that `paths` name, in order, each at its first mention. A path is

    * a table (.csv, .tsv, .jsonl, .ndjson, .parquet, .pq) with paths in `column`, relative to the
      table's folder, or a .txt with a path in each line. These paths are the images' names;
    * any other file, image or not;
    * a folder: the images in it, sorted, then those in the folders below; hidden ones are skipped;
    * a pattern (`*`, `?`, `[...]`, and `**` for folders of any depth): its matches, sorted.

    # Raises

    `InputError` if a path gives no image, a table cannot be read, or two images have the same name.
    """
    found: Dict[str, ImageFile] = {}
    named: Dict[str, str] = {}
    repeated = 0
    others: List[str] = []
    for path in paths:
        images = list(_listed(path, column, others))
        if not images:
            raise InputError(
                f"'{path}' gives no image; expected a file, a folder with images, a pattern in "
                "quotes, or a table of paths"
            )
        for image in images:
            file = os.path.abspath(image.file)
            if named.setdefault(image.name, file) != file:
                raise InputError(
                    f"'{image.name}' is the name of {named[image.name]} and of {file}; expected "
                    "different names (classify one table at a time)"
                )
            repeated += file in found
            found.setdefault(file, image)
    return ImageFiles(list(found.values()), repeated, others)


def is_table(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in TABLES


def _listed(path: str, column: str, others: List[str]) -> Iterator[ImageFile]:
    if os.path.isdir(path):
        yield from _in_folder(path, (), others)
    elif os.path.lexists(path) and is_table(path):
        yield from _in_table(path, column)
    elif os.path.lexists(path):
        yield ImageFile(path, path)
    elif glob.has_magic(path):
        for match in sorted(glob.iglob(path, recursive=True)):
            yield from _listed(match, column, others)


def _in_folder(folder: str, above: Tuple[str, ...], others: List[str]) -> Iterator[ImageFile]:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"'{folder}' is a link to a folder that contains it; remove the link")
    try:
        with os.scandir(folder) as entries:
            visible = sorted(
                (entry.path, entry.is_dir()) for entry in entries if entry.name[0] != "."
            )
    except OSError as error:
        raise InputError(f"'{folder}' cannot be read: {error.strerror}") from None
    for path, is_folder in visible:
        if not is_folder and not _is_pipe(path) and is_image(path):
            yield ImageFile(path, path)
        elif not is_folder:
            others.append(path)
    for path, is_folder in visible:
        if is_folder:
            if os.path.basename(path).lower() in FOLDERS_OF_OTHER_PROGRAMS:
                others.append(path)
            else:
                yield from _in_folder(path, (*above, real), others)


def _is_pipe(path: str) -> bool:
    """Return whether a path is a pipe or a device, which may have no end."""
    return os.path.exists(path) and not os.path.isfile(path)


def _in_table(path: str, column: str) -> Iterator[ImageFile]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix in DELIMITERS:
        cells = _csv_cells(path, column, DELIMITERS[suffix])
    elif suffix in LISTS:
        cells = _lines(path)
    else:
        cells = (_json_cells if suffix in JSON_LINES else _parquet_cells)(path, column)
    folder = os.path.dirname(path)
    try:
        check_regular(path)
        for number, cell in cells:
            if not isinstance(cell, str) or not cell.strip():
                raise InputError(
                    f"{path}, line {number}: {cell!r} in the column '{column}'; expected the path "
                    "of an image"
                )
            yield ImageFile(cell, os.path.join(folder, os.path.expanduser(cell)))
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from None


def _csv_cells(path: str, column: str, delimiter: str) -> Iterator[Cell]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, delimiter=delimiter, strict=True)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        _check_column(path, column, rows.fieldnames)
        for row in rows:
            yield rows.line_num, row[column]


def _lines(path: str) -> Iterator[Cell]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.rstrip("\n")


def _json_cells(path: str, column: str) -> Iterator[Cell]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: expected a JSON object")
            _check_column(f"{path}, line {number}", column, row)
            yield number, row[column]


def _parquet_cells(path: str, column: str) -> Iterator[Cell]:
    pyarrow = import_pyarrow(path)
    try:
        file = pyarrow.parquet.ParquetFile(path)
        _check_column(path, column, file.schema_arrow.names)
        cells = file.read([column]).column(0).to_pylist()
    except pyarrow.ArrowException as error:
        reason = " ".join(str(error).split())
        raise InputError(f"'{path}' is not a Parquet file: {reason}") from None
    yield from enumerate(cells, 1)


def _check_column(place: str, column: str, columns: Collection[str]) -> None:
    if column not in columns:
        raise InputError(
            f"{place} has the columns {', '.join(map(repr, columns)) or 'of no name'}; expected "
            f"a column of paths called '{column}' (--column)"
        )


def import_pyarrow(path: str) -> Any:
    """Import `pyarrow.parquet`, to read or write a table at `path`."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"'{path}': Parquet needs pyarrow, which is not installed: pip install pyarrow, or "
            'pip install "allencv[parquet]" on a machine that trains'
        ) from None
    return pyarrow
