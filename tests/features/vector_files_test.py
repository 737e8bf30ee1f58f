from pathlib import Path
from typing import List, Optional

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from allencv.classify.output_files import Record
from allencv.features.vector_files import (
    is_vector_file,
    read_vectors,
    vector_record,
    write_vectors,
)
from allencv.runtime.errors import InputError

VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
RECORDS: List[Record] = [
    vector_record({"path": "a.jpg"}, VECTORS[0]),
    {"path": "b.jpg", "error": "b.jpg: truncated"},
    *(vector_record({"path": name}, VECTORS[row]) for row, name in ((1, "c.jpg"), (2, "ü.jpg"))),
]


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("labels", [["cat", "dog", None, "dog"], [None] * 4])
def test_what_was_written_is_read(tmp_path: Path, suffix: str, labels: List[Optional[str]]) -> None:
    path = str(tmp_path / f"vectors{suffix}")
    write_vectors(path, "checksum", 5, labels, lambda: RECORDS)
    assert is_vector_file(path)
    found = read_vectors(path)
    assert found.names == ["a.jpg", "c.jpg", "ü.jpg"]
    assert found.labels == [labels[0], *labels[2:]]
    assert found.vectors.dtype == np.float32
    assert np.array_equal(found.vectors, VECTORS)
    assert found.errors == {"b.jpg": "b.jpg: truncated"}
    assert found.model == "checksum"


def test_other_files_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a.jpg"]}), table)
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(table.read_bytes()[:-9])
    for path in (table, damaged, tmp_path / "missing.npz", tmp_path / "missing.parquet", tmp_path):
        assert not is_vector_file(str(path))
    other, text, array = (tmp_path / f"{name}.npz" for name in ("other", "text", "array"))
    np.savez(other, vectors=VECTORS)
    text.write_text("vectors")
    with open(array, "wb") as file:
        np.save(file, VECTORS)
    for path in (other, text, array):
        assert is_vector_file(str(path))
        with pytest.raises(InputError, match=r"is not a file of vectors that 'allencv embed' has"):
            read_vectors(str(path))
