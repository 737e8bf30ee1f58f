"""Write the vectors of images to a file: names, labels and vectors."""

import base64
import os
import zipfile
from itertools import islice
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, List, Optional, Sequence, cast

import numpy as np

from allencv.classify.output_files import NOT_UNICODE, Record, suffix_of
from allencv.runtime.errors import InputError
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.whole_files import whole_file

SUFFIXES = (".parquet", ".npz")
ROWS_AT_ONCE = 1000


class VectorRecord(Record, total=False):
    """What is known about one image: its vector, or an error."""

    vector: str
    """The numbers, in float32, as base64."""


def vector_record(record: Record, vector: np.ndarray) -> VectorRecord:
    """Return a record with the vector of an image."""
    encoded = base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return cast(VectorRecord, {**record, "vector": encoded})


Records = Callable[[], Iterable[Record]]
"""Returns all records, each time it is called."""
Labels = Sequence[Optional[str]]


def check_output(output: str) -> None:
    """Raise `InputError` unless vectors can be written to a file of this name."""
    if suffix_of(output) not in SUFFIXES or os.path.isdir(output):
        raise InputError(
            f"--output is '{output}'; expected a file whose name ends in {', '.join(SUFFIXES)}"
        )
    if suffix_of(output) == ".parquet":
        import_pyarrow(output)


def write_vectors(output: str, size: int, labels: Labels, records: Records) -> None:
    """
    Write a file, as a whole or not at all.

    # Parameters

    size : the size of a vector.
    labels : the label of each image, in the order of the records; `None` for those without one.
    """
    with whole_file(output) as temporary:
        write = _write_parquet if suffix_of(output) == ".parquet" else _write_npz
        write(temporary, size, labels, records)


def _vector(record: Record) -> bytes:
    return base64.b64decode(cast(VectorRecord, record)["vector"])


def _write_npz(path: Path, size: int, labels: Labels, records: Records) -> None:
    """Write `names`, `labels` and `vectors`, and apart from them the names with `errors`."""
    good, failed = [], {}
    for place, record in enumerate(records()):
        if "error" in record:
            failed[record["path"]] = record["error"]
        else:
            good.append((record["path"], labels[place]))
    texts: Dict[str, List[str]] = {"names": [_unicode(name) for name, _ in good]}
    if any(labels):
        texts["labels"] = [_unicode(label or "") for _, label in good]
    if failed:
        texts["failed"] = list(map(_unicode, failed))
        texts["errors"] = list(map(_unicode, failed.values()))
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in texts.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(values, dtype=str))
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            _write_header(file, (len(good), size))
            file.writelines(_vector(record) for record in records() if "error" not in record)


def _write_header(file: IO[bytes], shape: Any) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_parquet(path: Path, size: int, labels: Labels, records: Records) -> None:
    pyarrow = import_pyarrow(str(path))
    text = pyarrow.string()
    fields = [("path", text), *([("label", text)] if any(labels) else [])]
    fields += [("vector", pyarrow.list_(pyarrow.float32(), size)), ("error", text)]
    schema = pyarrow.schema(fields)
    rows = zip(records(), labels)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            writer.write_table(_table(pyarrow, schema, size, some))


def _table(pyarrow: Any, schema: Any, size: int, rows: List[Any]) -> Any:
    is_missing = np.array(["error" in record for record, _ in rows])
    nothing = bytes(4 * size)
    numbers = b"".join(nothing if "error" in each else _vector(each) for each, _ in rows)
    columns: Dict[str, Any] = {
        "path": [_unicode(record["path"]) for record, _ in rows],
        "label": [None if label is None else _unicode(label) for _, label in rows],
        "vector": pyarrow.FixedSizeListArray.from_arrays(
            pyarrow.array(np.frombuffer(numbers, "<f4")), size, mask=pyarrow.array(is_missing)
        ),
        "error": [_unicode(each["error"]) if "error" in each else None for each, _ in rows],
    }
    return pyarrow.Table.from_arrays(
        [pyarrow.array(columns[field.name], field.type) for field in schema], schema=schema
    )


def _unicode(text: str) -> str:
    return text.encode("utf-8", NOT_UNICODE).decode()
