import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
from pyarrow import parquet

from allencv.classify.output_files import columns, write_answers
from allencv.runtime.certainty import LabelSets
from tests.runtime.certainty.certainties import certainty, everything

ONE_LABEL: List[Dict[str, Any]] = [
    {
        "path": "a,b.jpg",
        "label": "cat",
        "top_k": [{"label": "cat", "probability": 0.75}, {"label": "dog", "probability": 0.25}],
        "probabilities": {"dog": 0.25, "cat": 0.75},
    },
    {"path": "c.jpg", "error": 'c.jpg: "bad"'},
]
MANY_LABELS: List[Dict[str, Any]] = [
    {
        "path": "a.jpg",
        "labels": ["x", "z"],
        "top_k": [{"label": "x", "probability": 0.75}, {"label": "z", "probability": 0.5}],
    },
    {"path": "b.jpg", "labels": [], "top_k": [{"label": "y", "probability": 0.125}] * 2},
]


def test_one_label_as_csv(tmp_path: Path) -> None:
    kinds = columns(["dog", "cat"], False, 2, True)
    write_answers(str(tmp_path / "out.csv"), kinds, ONE_LABEL)
    assert (tmp_path / "out.csv").read_text() == (
        "path,label,probability,label_2,probability_2,p_dog,p_cat,error\n"
        '"a,b.jpg",cat,0.75,dog,0.25,0.25,0.75,\n'
        'c.jpg,,,,,,,"c.jpg: ""bad"""\n'
    )


def test_any_number_of_labels_as_csv(tmp_path: Path) -> None:
    write_answers(str(tmp_path / "out.csv"), columns("xyz", True, 2, False), MANY_LABELS)
    assert (tmp_path / "out.csv").read_text() == (
        "path,labels,label_1,probability_1,label_2,probability_2,error\n"
        "a.jpg,x|z,x,0.75,z,0.5,\n"
        "b.jpg,,y,0.125,y,0.125,\n"
    )


def test_parquet_has_the_same_rows_with_types(tmp_path: Path) -> None:
    write_answers(str(tmp_path / "one.parquet"), columns("dc", False, 2, False), ONE_LABEL[1:])
    table = parquet.read_table(tmp_path / "one.parquet")
    assert table.to_pylist() == [
        {
            "path": "c.jpg",
            **dict.fromkeys(["label", "probability", "label_2", "probability_2"]),
            "error": 'c.jpg: "bad"',
        }
    ]
    write_answers(str(tmp_path / "out.parquet"), columns("xyz", True, 2, False), MANY_LABELS)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["labels"].to_pylist() == [["x", "z"], []]
    assert table["probability_2"].to_pylist() == [0.5, 0.125]
    assert [str(kind) for kind in table.schema.types[:4]] == [
        "string",
        "list<element: string>",
        "string",
        "float",
    ]


def test_json_lines_are_the_answers(tmp_path: Path) -> None:
    write_answers(str(tmp_path / "out.jsonl"), columns("dc", False, 2, True), ONE_LABEL)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == ONE_LABEL


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_that_are_no_unicode_are_written(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"out{suffix}"
    record = {"path": "caf\udce9.jpg", "label": "ca\udcff", "top_k": []}
    write_answers(str(output), columns(["ca\udcff"], False, 1, True), [record])
    if suffix == ".jsonl":
        assert json.loads(output.read_text()) == record
    elif suffix == ".csv":
        (row,) = csv.DictReader(output.read_text().splitlines())
        assert (row["path"], row["label"]) == ("caf\\udce9.jpg", "ca\\udcff")
    else:
        (row,) = parquet.read_table(output).to_pylist()
        assert (row["path"], row["label"]) == ("caf\\udce9.jpg", "ca\\udcff")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_output_that_is_not_finished_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    def stops() -> Any:
        yield from ONE_LABEL
        raise KeyboardInterrupt

    output = tmp_path / f"out{suffix}"
    output.write_text("of the last run")
    (tmp_path / f"out{suffix}.tmp").write_text("the user's own")
    with pytest.raises(KeyboardInterrupt):
        write_answers(str(output), columns(["dog", "cat"], False, 2, True), stops())
    assert sorted(tmp_path.iterdir()) == [output, tmp_path / f"out{suffix}.tmp"]
    assert output.read_text() == "of the last run"
    write_answers(str(output), columns(["dog", "cat"], False, 2, True), ONE_LABEL)
    assert (tmp_path / f"out{suffix}.tmp").read_text() == "the user's own"


CALIBRATED: List[Dict[str, Any]] = [
    {
        "path": "a.jpg",
        "label": "cat",
        "labels": ["cat", "dog"],
        "is_unknown": False,
        "is_answered": True,
        "top_k": [{"label": "cat", "probability": 0.75}],
    },
    {"path": "b.jpg", "error": "b.jpg: bad"},
]


def test_a_calibrated_model_has_more_columns(tmp_path: Path) -> None:
    kinds = columns(["dog", "cat"], False, 1, False, everything(2))
    write_answers(str(tmp_path / "out.csv"), kinds, CALIBRATED)
    assert (tmp_path / "out.csv").read_text() == (
        "path,label,probability,labels,is_unknown,is_answered,error\n"
        "a.jpg,cat,0.75,cat|dog,false,true,\n"
        "b.jpg,,,,,,b.jpg: bad\n"
    )
    write_answers(str(tmp_path / "out.parquet"), kinds, CALIBRATED)
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table["labels"].to_pylist() == [["cat", "dog"], None]
    assert table["is_unknown"].to_pylist() == [False, None]
    assert str(table.schema.field("is_answered").type) == "bool"
    write_answers(str(tmp_path / "out.jsonl"), kinds, CALIBRATED)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == CALIBRATED


def test_columns_are_those_that_were_found_out() -> None:
    several = columns("xyz", True, 1, False, everything(3, sets="missed"))
    assert list(several)[1:5] == ["labels", "possible_labels", "is_unknown", "is_answered"]
    assert columns("xy", False, 1, False, certainty(2)) == columns("xy", False, 1, False)
    only = columns("xy", False, 1, False, replace(everything(2, kind=None), sets=None))
    assert list(only) == ["path", "label", "probability", "is_answered", "error"]
    unknown = columns("xy", False, 1, False, replace(everything(2), selection=None, sets=None))
    assert list(unknown) == ["path", "label", "probability", "is_unknown", "error"]


def test_possible_labels_are_divided_like_labels(tmp_path: Path) -> None:
    kinds = columns("xyz", True, 1, False, certainty(3, sets=LabelSets("missed", [0.9], [[0.5]])))
    record = {**MANY_LABELS[0], "possible_labels": ["x", "z", "y"], "top_k": []}
    write_answers(str(tmp_path / "out.csv"), kinds, [record])
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == "a.jpg,x|z,x|z|y,,,"
