"""The output of `classify`: the answers as a table, in the format that its name ends in."""

import csv
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Sequence

from allencv.runtime.image_files import import_pyarrow
from allencv.runtime.whole_files import whole_file

Record = Dict[str, Any]
"""
The answer for one image: `path`, and either `error` or what `readable` says of it, with
`probabilities` by label if they were asked for.
"""

TEXT, TEXTS, NUMBER = "text", "texts", "number"
"""What a column holds."""
ROWS_AT_ONCE = 10_000
LABELS_DELIMITER = "|"
"""What stands between the labels of an image in CSV."""
PLAIN = ("path", "label", "labels", "error")
"""What is the same in a record and in a row of a table."""
NOT_UNICODE = "backslashreplace"
"""How a table has what is no Unicode in the name of a file or a label: as JSON has it."""


def columns(
    labels: Sequence[str], multi_label: bool, top_k: int, probabilities: bool
) -> Dict[str, str]:
    """The columns of a table of answers, and what each holds."""
    found = {"path": TEXT}
    if multi_label:
        found |= {"labels": TEXTS, "label_1": TEXT, "probability_1": NUMBER}
    else:
        found |= {"label": TEXT, "probability": NUMBER}
    for place in range(2, top_k + 1):
        found |= {f"label_{place}": TEXT, f"probability_{place}": NUMBER}
    if probabilities:
        found |= {f"p_{label}": NUMBER for label in labels}
    return {**found, "error": TEXT}


def to_row(record: Record) -> Record:
    """The cells of an answer by their columns."""
    row: Record = {key: record[key] for key in PLAIN if key in record}
    for place, entry in enumerate(record.get("top_k", ()), 1):
        suffix = "" if place == 1 and "label" in record else f"_{place}"
        row[f"label{suffix}"] = entry["label"]
        row[f"probability{suffix}"] = entry["probability"]
    row |= {f"p_{label}": number for label, number in record.get("probabilities", {}).items()}
    return row


def to_line(record: Record) -> bytes:
    """The line of an answer in JSON lines."""
    return (json.dumps(record) + "\n").encode()


def write_answers(path: str, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    """Writes the output, all of it or none, in the format that its name ends in."""
    with whole_file(path) as temporary:
        WRITERS[suffix_of(path)](temporary, kinds, records)


def suffix_of(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _write_json_lines(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    with open(path, "wb") as file:
        file.writelines(map(to_line, records))


def _write_csv(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    with open(path, "w", encoding="utf-8", errors=NOT_UNICODE, newline="") as file:
        writer = csv.DictWriter(file, list(kinds), lineterminator="\n")
        writer.writeheader()
        for record in records:
            row = to_row(record)
            if "labels" in row:
                row["labels"] = LABELS_DELIMITER.join(row["labels"])
            writer.writerow(row)


def _write_parquet(path: Path, kinds: Dict[str, str], records: Iterable[Record]) -> None:
    pyarrow = import_pyarrow(str(path))
    text = pyarrow.string()
    types = {TEXT: text, TEXTS: pyarrow.list_(text), NUMBER: pyarrow.float32()}
    schema = pyarrow.schema([(_unicode(name), types[kind]) for name, kind in kinds.items()])
    rows = ({_unicode(k): _unicode(v) for k, v in to_row(record).items()} for record in records)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema))


def _unicode(cell: Any) -> Any:
    if isinstance(cell, list):
        return [_unicode(each) for each in cell]
    return cell.encode("utf-8", NOT_UNICODE).decode() if isinstance(cell, str) else cell


WRITERS: Dict[str, Callable[[Path, Dict[str, str], Iterable[Record]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
