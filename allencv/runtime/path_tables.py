"""
Read the paths of images from tables and lists. Readers of training data use
`data.dataset_readers.tables`, which also reads labels, URLs, and compressed tables.
"""

import csv
import os
from typing import Any, Collection, Iterator, Tuple

from allencv.runtime.errors import InputError
from allencv.runtime.installing import pip_install
from allencv.runtime.json_files import parse_json
from allencv.runtime.regular_files import check_regular

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""The format of a table by its suffix."""
DELIMITERS = {"csv": ",", "tsv": "\t"}
"""The usual delimiter of the formats that have one."""
LISTS = (".txt",)
"""The suffixes of lists, with a path in each line."""
TABLES = (*FORMATS, *LISTS)

Cell = Tuple[int, object]
"""The number of a line or row, and its cell in the column of paths."""


def paths_in(path: str, column: str) -> Iterator[str]:
    """
    Yield the paths in a column of a table, or in the lines of a list.

    # Raises

    `InputError` if it cannot be read, has no such column, or has a cell without a path.
    """
    suffix = os.path.splitext(path)[1].lower()
    format = FORMATS.get(suffix)
    if suffix in LISTS:
        cells = _lines(path)
    elif format in DELIMITERS:
        cells = _csv_cells(path, column, DELIMITERS[format])
    else:
        cells = (_json_cells if format == "jsonl" else _parquet_cells)(path, column)
    try:
        check_regular(path)
        for number, cell in cells:
            if not isinstance(cell, str) or not cell.strip():
                raise InputError(
                    f"{path}, line {number}: {cell!r} in the column '{column}'; expected the path "
                    "of an image"
                )
            yield cell
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
            f"'{path}': Parquet needs pyarrow, which is not installed: {pip_install('pyarrow')}"
        ) from None
    return pyarrow
