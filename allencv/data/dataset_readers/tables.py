"""Reads the rows of a table, with their line numbers, from CSV, TSV, JSON lines or Parquet."""

import csv
import io
import json
import logging
import os
import re
from operator import itemgetter
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.files import read_bytes, read_text, suffixes
from allencv.data.dataset_readers.messages import cut, some
from allencv.runtime.installing import pip_install
from allencv.runtime.path_tables import DELIMITERS, FORMATS

logger = logging.getLogger(__name__)

Row = Tuple[int, Sequence[Any]]


class Table(NamedTuple):
    """
    A table: the names of its columns; a function that takes some columns and yields the number and
    cells of each row; the unit of these numbers (lines or rows); and the delimiter of a text table.
    """

    columns: List[str]
    rows: Callable[[List[str]], Iterator[Row]]
    unit: str = "line"
    delimiter: Optional[str] = None


def open_table(path: str, format: Optional[str], delimiter: Optional[str], encoding: str) -> Table:
    """
    Open a table of the given format, or of that of its suffix; a CSV or TSV table with the given
    delimiter, or with that of its format.
    """
    suffix, _ = suffixes(path)
    format = format or FORMATS.get(suffix)
    if format is None:
        raise ConfigurationError(
            f"{path} has the suffix '{suffix}'; expected {', '.join(FORMATS)}, or "
            f"dataset_reader.format with one of {', '.join(sorted(set(FORMATS.values())))}"
        )
    if format not in DELIMITERS and delimiter is not None:
        raise ConfigurationError(
            f"dataset_reader.delimiter is {delimiter!r} for {path}, which is read as "
            f"{format}; expected csv or tsv (dataset_reader.format)"
        )
    if format in DELIMITERS:
        table = read_csv(path, delimiter or DELIMITERS[format], encoding)
    elif format == "jsonl":
        table = read_json_lines(path, encoding)
    else:
        table = read_parquet(path)
    between = "" if table.delimiter is None else f" with {table.delimiter!r} between the cells"
    logger.info("%s: read as %s%s, columns %s", path, format, between, some(table.columns))
    return table


def read_csv(path: str, delimiter: str, encoding: str) -> Table:
    """Read a table of text with a header. A quoted cell may contain line ends."""
    text = read_text(path, encoding)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)

    def lines() -> Iterator[Row]:
        start = 1
        try:
            for cells in reader:
                if len(cells) > 1 or any(map(str.strip, cells)):
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            raise ConfigurationError(f"{path}, line {start}: {error}") from None

    numbered = lines()
    header = next(numbered, None)
    if header is None:
        raise ConfigurationError(f"{path} is empty; expected a header and a row for each image")
    columns = [name.strip() for name in header[1]]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ConfigurationError(
            f"{path}, line {header[0]}: the header has {some(repeated)} more than once; expected a "
            "different name for each column"
        )

    def rows(wanted: List[str]) -> Iterator[Row]:
        pick = _picker([columns.index(name) for name in wanted])
        for number, cells in numbered:
            if len(cells) != len(columns):
                # Editors do not show the line ends of early Macs.
                has_odd_ends = "\n" in text and re.search(r"\r(?![\r\n])", text)
                hint = "; a carriage return (\\r) alone also ends a line" if has_odd_ends else ""
                if columns[0].startswith("#"):
                    hint += f"; the header is {cut(columns[0])}: remove comments"
                raise ConfigurationError(
                    f"{path}, line {number}: {len(cells)} cells; expected {len(columns)}, as in "
                    f"the header (dataset_reader.delimiter is {delimiter!r}){hint}"
                )
            yield number, pick(cells)

    return Table(columns, rows, delimiter=delimiter)


def read_json_lines(path: str, encoding: str) -> Table:
    """Read a table with one JSON object per line, whose keys are the columns."""
    numbered: List[Tuple[int, Dict[str, Any]]] = []
    columns: Dict[str, None] = {}
    text = io.StringIO(read_text(path, encoding), newline=None)  # any line end
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique)
        except ValueError as error:
            raise ConfigurationError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ConfigurationError(f"{path}, line {number}: {cut(row)}; expected a JSON object")
        numbered.append((number, row))
        columns.update(dict.fromkeys(row))
    if not numbered:
        raise ConfigurationError(f"{path} is empty; expected a JSON object for each image")

    def rows(wanted: List[str]) -> Iterator[Row]:
        for number, row in numbered:
            yield number, tuple(map(row.get, wanted))

    return Table(list(columns), rows)


def read_parquet(path: str) -> Table:
    """Read only the requested columns of a table in Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            f"{path}: Parquet needs pyarrow, which is not installed: {pip_install('pyarrow')}"
        ) from None
    try:
        # A local file is read only as far as needed.
        is_here = os.path.isfile(path) and not suffixes(path)[1]
        file = parquet.ParquetFile(path if is_here else pyarrow.BufferReader(read_bytes(path)))
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigurationError(f"{path}: not a Parquet file: {_in_a_line(error)}") from None

    def rows(wanted: List[str]) -> Iterator[Row]:
        number = 0
        try:
            for batch in file.iter_batches(columns=list(dict.fromkeys(wanted))):
                for cells in zip(*(batch.column(name).to_pylist() for name in wanted)):
                    number += 1
                    yield number, cells
        except (OSError, pyarrow.ArrowException) as error:
            raise ConfigurationError(
                f"{path}: damaged after row {number}: {_in_a_line(error)}"
            ) from None

    return Table(list(file.schema_arrow.names), rows, "row")


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return a JSON object; raise if keys are repeated."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a key is repeated: {', '.join(key for key, _ in pairs)}")
    return row


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _picker(places: List[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == 1:
        return lambda cells: (cells[places[0]],)
    return itemgetter(*places)
