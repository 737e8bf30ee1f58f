import json
from pathlib import Path
from typing import Any, Dict, List

import pyarrow
import pytest
from pyarrow import parquet

from allencv.data.dataset_readers.tables import open_table
from allencv.runtime.path_tables import DELIMITERS, FORMATS, LISTS, TABLES, paths_in

PATHS = ["a.jpg", "b c.png", "süß/d,e.jpg", 'f"g.jpg', "h\ti.jpg", "j\nk.jpg", "a.jpg"]


def write(file: Path, rows: List[Dict[str, Any]]) -> None:
    format = FORMATS[file.suffix]
    if format == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    elif format == "jsonl":
        file.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows))
    else:
        lines = [list(rows[0]), *(list(row.values()) for row in rows)]
        quoted = [['"' + str(cell).replace('"', '""') + '"' for cell in line] for line in lines]
        file.write_text("\n".join(map(DELIMITERS[format].join, quoted)), encoding="utf-8-sig")


@pytest.mark.parametrize("suffix", FORMATS)
def test_classify_and_training_read_the_same_paths(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"table{suffix}"
    write(file, [{"label": number, "file": path} for number, path in enumerate(PATHS)])
    assert list(paths_in(str(file), "file")) == PATHS
    rows = open_table(str(file), None, None, "utf-8").rows(["file"])
    assert [cell for _, (cell,) in rows] == PATHS


def test_a_list_has_a_path_in_each_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffa.jpg\n\n b,c.jpg\n", encoding="utf-8")
    assert list(paths_in(str(tmp_path / "list.txt"), "file")) == ["a.jpg", " b,c.jpg"]
    assert LISTS == (".txt",)
    assert set(TABLES) == {*FORMATS, *LISTS}
