"""Reads the rows of a table, with their line numbers, from CSV, TSV, JSON lines or Parquet."""

import csv
import io
import json
import os
from operator import itemgetter
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.files import read_bytes, read_text, suffixes
from allencv.data.dataset_readers.messages import cut, some

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

Row = Tuple[int, Sequence[Any]]


class Table(NamedTuple):
    """
    The names of a table's columns; a function that gives, for the columns that it is called with,
    the number of each row and its cells; and what these numbers count, lines or rows.
    """

    columns: List[str]
    rows: Callable[[List[str]], Iterator[Row]]
    unit: str = "line"


def read_csv(path: str, delimiter: str, encoding: str) -> Table:
    """A table whose cells are text, with a header. A quoted cell may hold line ends."""
    reader = csv.reader(
        io.StringIO(read_text(path, encoding), newline=""), delimiter=delimiter, strict=True
    )

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
            "name of its own for each column"
        )

    def rows(wanted: List[str]) -> Iterator[Row]:
        pick = _picker([columns.index(name) for name in wanted])
        for number, cells in numbered:
            if len(cells) != len(columns):
                raise ConfigurationError(
                    f"{path}, line {number}: {len(cells)} cells; expected {len(columns)}, as in "
                    f"the header (dataset_reader.delimiter is {delimiter!r})"
                )
            yield number, pick(cells)

    return Table(columns, rows)


def read_json_lines(path: str, encoding: str) -> Table:
    """A table of one JSON object in each line, whose keys are the columns."""
    numbered: List[Tuple[int, Dict[str, Any]]] = []
    columns: Dict[str, None] = {}
    for number, line in enumerate(read_text(path, encoding).split("\n"), 1):
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
    """A table in Parquet, of which only the columns that are wanted are read."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigurationError(
            f'{path}: Parquet needs pyarrow; install it with pip install "allencv[parquet]"'
        ) from None
    try:
        # A file on this machine is read as far as it is needed.
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
    """A JSON object, of whose keys none would be lost."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError(f"a key stands there twice: {', '.join(key for key, _ in pairs)}")
    return row


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _picker(places: List[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(places) == 1:
        return lambda cells: (cells[places[0]],)
    return itemgetter(*places)
