"""Write the vectors of images to a file, and read them: names, labels and vectors."""

import base64
import os
import zipfile
from itertools import islice
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, cast

import numpy as np

from allencv.classify.output_files import NOT_UNICODE, Record, suffix_of
from allencv.runtime.errors import InputError
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.whole_files import whole_file

SUFFIXES = (".parquet", ".npz")
MODEL = b"allencv.model"
"""The key of the checksum of what makes the vectors, in the metadata of a Parquet file."""
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


class VectorTable(NamedTuple):
    """
    What a file of vectors holds.

    # Parameters

    names : of the images that have a vector.
    labels : of these images, `None` for those without one.
    vectors : `(images, vector_size)`, float32.
    errors : why other images have none, by their names.
    model : the checksum of what makes the vectors.
    """

    names: List[str]
    labels: List[Optional[str]]
    vectors: np.ndarray
    errors: Dict[str, str]
    model: str


def check_output(output: str) -> None:
    """Raise `InputError` unless vectors can be written to a file of this name."""
    if suffix_of(output) not in SUFFIXES or os.path.isdir(output):
        raise InputError(
            f"--output is '{output}'; expected a file whose name ends in {', '.join(SUFFIXES)}"
        )
    if suffix_of(output) == ".parquet":
        import_pyarrow(output)


def write_vectors(output: str, model: str, size: int, labels: Labels, records: Records) -> None:
    """
    Write a file, as a whole or not at all.

    # Parameters

    model : the checksum of what makes the vectors.
    size : the size of a vector.
    labels : the label of each image, in the order of the records; `None` for those without one.
    """
    with whole_file(output) as temporary:
        write = _write_parquet if suffix_of(output) == ".parquet" else _write_npz
        write(temporary, model, size, labels, records)


def is_vector_file(path: str) -> bool:
    """Return whether a file was written by `write_vectors`, by its name and its metadata."""
    if suffix_of(path) == ".npz":
        return os.path.isfile(path)
    if suffix_of(path) != ".parquet" or not os.path.isfile(path):
        return False
    pyarrow = import_pyarrow(path)
    try:
        return MODEL in (pyarrow.parquet.read_schema(path).metadata or {})
    except (pyarrow.ArrowException, OSError):
        return False


def read_vectors(path: str) -> VectorTable:
    """Read what `write_vectors` has written. Raise `InputError` for another file."""
    try:
        read = _read_parquet if suffix_of(path) == ".parquet" else _read_npz
        return read(path)
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"'{path}' is not a file of vectors that 'allencv embed' has written: {error}"
        ) from None


def _read_npz(path: str) -> VectorTable:
    with np.load(path, allow_pickle=False) as file:
        names = file["names"].tolist()
        labels = file["labels"].tolist() if "labels" in file else [""] * len(names)
        failed = file["failed"].tolist() if "failed" in file else []
        errors = file["errors"].tolist() if "failed" in file else []
        return VectorTable(
            names,
            [label or None for label in labels],
            file["vectors"],
            dict(zip(failed, errors)),
            str(file["model"]),
        )


def _read_parquet(path: str) -> VectorTable:
    pyarrow = import_pyarrow(path)
    table = pyarrow.parquet.read_table(path)
    has_vector = table["vector"].is_valid()
    good, failed = table.filter(has_vector), table.filter(pyarrow.compute.invert(has_vector))
    vectors = good["vector"].combine_chunks()
    has_labels = "label" in table.column_names
    return VectorTable(
        good["path"].to_pylist(),
        good["label"].to_pylist() if has_labels else [None] * len(good),
        vectors.flatten().to_numpy().reshape(len(good), vectors.type.list_size),
        dict(zip(failed["path"].to_pylist(), failed["error"].to_pylist())),
        table.schema.metadata[MODEL].decode(),
    )


def _vector(record: Record) -> bytes:
    return base64.b64decode(cast(VectorRecord, record)["vector"])


def _write_npz(path: Path, model: str, size: int, labels: Labels, records: Records) -> None:
    """
    Write `names`, `labels`, `vectors` and `model`, and apart from them the names with `errors`.
    """
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
        for name, values in {**texts, "model": model}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(values, dtype=str))
        with archive.open("vectors.npy", "w", force_zip64=True) as file:
            _write_header(file, (len(good), size))
            file.writelines(_vector(record) for record in records() if "error" not in record)


def _write_header(file: IO[bytes], shape: Any) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_parquet(path: Path, model: str, size: int, labels: Labels, records: Records) -> None:
    pyarrow = import_pyarrow(str(path))
    text = pyarrow.string()
    fields = [("path", text), *([("label", text)] if any(labels) else [])]
    fields += [("vector", pyarrow.list_(pyarrow.float32(), size)), ("error", text)]
    schema = pyarrow.schema(fields, {MODEL: model})
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
