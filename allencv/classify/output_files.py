"""The output of `classify`: a table of answers, in the format of its suffix."""

import csv
import json
import os
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence

from allencv.runtime.certainty import Certainty
from allencv.runtime.classifier import Answer
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.whole_files import whole_file

Row = Dict[str, Any]
"""The cells of a row by column."""

TEXT, TEXTS, NUMBER, FLAG = "text", "texts", "number", "flag"
"""The kinds of columns."""
ROWS_AT_ONCE = 10_000
LABELS_DELIMITER = "|"
"""Separates the labels of an image in CSV."""
SETS = ("labels", "possible_labels")
FLAGS = ("is_unknown", "is_answered")
PLAIN = ("path", "label", *SETS, *FLAGS, "error")
"""The keys that a record and a row of a table have in common."""
NOT_UNICODE = "backslashreplace"
"""How tables show bytes that are not Unicode in names of files and labels: as in JSON."""


class Record(Answer, total=False):
    """The answer for one image, or the reason why there is none."""

    path: str
    error: str
    probabilities: Dict[str, float]
    """By label, if requested."""
    stamp: Optional[List[int]]
    """The `file_stamp` of the image, while the run is unfinished."""


def columns(
    labels: Sequence[str],
    multi_label: bool,
    top_k: int,
    probabilities: bool,
    certainty: Optional[Certainty] = None,
) -> Dict[str, str]:
    """
    Return the columns of a table of answers, each with its kind.

    # Parameters

    certainty : of a calibrated model, whose answers have more columns.
    """
    found = {"path": TEXT}
    more: Dict[str, str] = {}
    if certainty is not None:
        if certainty.sets is not None:
            more["possible_labels" if multi_label else "labels"] = TEXTS
        if certainty.unknown is not None:
            more["is_unknown"] = FLAG
        if certainty.selection is not None:
            more["is_answered"] = FLAG
    if multi_label:
        found |= {"labels": TEXTS, **more, "label_1": TEXT, "probability_1": NUMBER}
    else:
        found |= {"label": TEXT, "probability": NUMBER, **more}
    for place in range(2, top_k + 1):
        found |= {f"label_{place}": TEXT, f"probability_{place}": NUMBER}
    if probabilities:
        found |= {f"p_{label}": NUMBER for label in labels}
    return {**found, "error": TEXT}


def to_row(record: Record) -> Row:
    """Return the cells of an answer by column."""
    row: Row = {key: value for key, value in record.items() if key in PLAIN}
    for place, entry in enumerate(record.get("top_k", ()), 1):
        suffix = "" if place == 1 and "label" in record else f"_{place}"
        row[f"label{suffix}"] = entry["label"]
        row[f"probability{suffix}"] = entry["probability"]
    row |= {f"p_{label}": number for label, number in record.get("probabilities", {}).items()}
    return row


def to_line(content: Mapping[str, object]) -> bytes:
    """Return a line of JSON."""
    return (json.dumps(content) + "\n").encode()


def write_answers(path: str, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    """Write the output as a whole or not at all, in the format of its suffix."""
    with whole_file(path) as temporary:
        WRITERS[suffix_of(path)](temporary, kinds, records)


def suffix_of(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def csv_lines(kinds: Dict[str, str], records: Iterable[Record]) -> Iterator[str]:
    """Yield the lines of a CSV table, the first with the names of the columns."""
    line = StringIO()
    # Names with either of these characters get quotes.
    writer = csv.DictWriter(line, list(kinds), lineterminator="\r\n")
    writer.writeheader()
    yield f"{line.getvalue()[:-2]}\n"
    for record in records:
        row = to_row(record)
        row |= {key: LABELS_DELIMITER.join(row[key]) for key in SETS if key in row}
        row |= {key: json.dumps(row[key]) for key in FLAGS if key in row}
        line.seek(0)
        line.truncate()
        writer.writerow(row)
        yield f"{line.getvalue()[:-2]}\n"


def csv_header(kinds: Dict[str, str]) -> bytes:
    """Return the first line of a CSV table, as it is in a file."""
    return next(csv_lines(kinds, ())).encode("utf-8", NOT_UNICODE)


def _write_json_lines(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    with open(path, "wb") as file:
        file.writelines(map(to_line, records))


def _write_csv(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    with open(path, "w", encoding="utf-8", errors=NOT_UNICODE, newline="") as file:
        file.writelines(csv_lines(kinds, records))


def _write_parquet(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    write_parquet_rows(path, kinds, map(to_row, records))


def write_parquet_rows(path: Path, kinds: Dict[str, str], rows: Iterable[Row]) -> None:
    pyarrow = import_pyarrow(str(path))
    left = iter(rows)
    with pyarrow.parquet.ParquetWriter(path, parquet_schema(kinds)) as writer:
        while some := list(islice(left, ROWS_AT_ONCE)):
            writer.write_table(to_arrow(kinds, some))


def parquet_schema(kinds: Dict[str, str]) -> Any:
    """Return the `pyarrow.Schema` of a table of answers."""
    import pyarrow

    text = pyarrow.string()
    types = {TEXT: text, TEXTS: pyarrow.list_(text), NUMBER: pyarrow.float32()}
    types[FLAG] = pyarrow.bool_()
    return pyarrow.schema([(_unicode(name), types[kind]) for name, kind in kinds.items()])


def to_arrow(kinds: Dict[str, str], rows: Iterable[Row]) -> Any:
    """Return a `pyarrow.Table` of rows."""
    import pyarrow

    shown = [{_unicode(key): _unicode(cell) for key, cell in row.items()} for row in rows]
    return pyarrow.Table.from_pylist(shown, parquet_schema(kinds))


def _unicode(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_unicode(each) for each in cell]
    return cell.encode("utf-8", NOT_UNICODE).decode() if isinstance(cell, str) else cell


WRITERS: Dict[str, Callable[[Path, Dict[str, str], Iterable[Record]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
