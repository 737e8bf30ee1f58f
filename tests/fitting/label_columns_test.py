"""Each list of cells is repeated, as labels have several images."""

from typing import Any, Dict, List, Optional

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting.label_columns import find_labels
from allencv.fitting.options import TableColumns


def labels(cells: Dict[str, List[str]], times: int = 3, **given: Optional[str]) -> Dict[str, Any]:
    repeated = {name: of_name * times for name, of_name in cells.items()}
    return find_labels("t.csv", repeated, TableColumns(**given)).arguments


def in_column(name: str, *cells: str, **given: Optional[str]) -> Any:
    """`None` for one label an image, else what is between several."""
    found = labels({name: list(cells)}, **given)
    return None if found == {"label_column": name} else found["labels_delimiter"]


@pytest.mark.parametrize(
    "cells",
    [
        ["cat", "dog"],
        ["polar bear", "red fox", "dog", "hot dog"],
        ["red fox", "red panda", "giant panda", "giant fox"],
        ["tench, Tinca tinca", "goldfish, Carassius auratus"],
        ["New York, NY", "Boston, MA", "Albany, NY"],
        ["Paris, France", "Lyon, France", "Paris, Texas", "Houston, Texas"],
        ["1", "2", "3"],
        ["0.5", "1.0"],
    ],
)
def test_one_label(cells: List[str]) -> None:
    assert in_column("label", *cells) is None


@pytest.mark.parametrize(
    ("name", "cells", "delimiter"),
    [
        ("category", ["a|b", "b", "a", "c|a", "c"], "|"),
        ("label", ["a; b", "b", "a", "b;a"], ";"),
        ("label", ["a, b", "b", "a", "c, a, b", "c"], ","),
        ("tags", ["a|b", "c|d"], "|"),  # the name says so
        ("Genres", ["a, b", "c"], ","),
    ],
)
def test_several_labels(name: str, cells: List[str], delimiter: str) -> None:
    assert in_column(name, *cells) == delimiter


@pytest.mark.parametrize(
    ("name", "cells", "delimiter"),
    [
        ("label", ["cat", "dog"] * 10 + ["cat|dog"], "|"),  # mistakes in few rows, or labels
        ("label", ["cat", "dog"] * 10 + ["cat,dog"], ","),
        ("label", ["red,large", "red,small", "blue,large", "blue,small"], ","),
        ("label", ["a|b", "c", "d", "e|f"], "|"),
        ("label", ["Black;White", "Grey"], ";"),
        ("Finding Labels", ["Cardiomegaly|Emphysema", "Effusion", "No Finding"], "|"),
        ("label", ["a b", "a", "b", "b c", "c"], " "),
        ("tags", ["clear primary", "cloudy", "haze primary"], " "),
        ("labels", ["clear primary", "clear water"], " "),
        ("tags", ["haze primary", "primary", "haze", "clear primary water", "clear water"], " "),
    ],
)
def test_both_readings_are_told(name: str, cells: List[str], delimiter: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        in_column(name, *cells)
    assert f"t.csv: column {name} is ambiguous: if an image has one label (" in str(error.value)
    assert f"--task multi --label-delimiter {delimiter!r}" in str(error.value)
    assert in_column(name, *cells, task="single") is None
    assert in_column(name, *cells, task="multi") == delimiter
    assert in_column(name, *cells, label_delimiter=delimiter) == delimiter


def test_words_that_do_not_recur_are_one_label() -> None:
    assert in_column("labels", "polar bear", "red fox", "dog") is None


def test_lists() -> None:
    for cells in (["['a', 'b']", "[]", "['b']"], ["['a' 'b']", "['b']"]):
        assert labels({"genre": cells}) == {"labels_column": "genre"}
        assert labels({"genre": cells}, task="multi") == {"labels_column": "genre"}


FLAGS = {"cat": ["0", "1", "0", "1"], "dog": ["0.0", "0.0", "1.0", "1.0"]}
ONE_HOT = {"cat": ["True", "False", "true", "0"], "dog": ["False", "True", "false", "1"]}


def test_columns_of_0_and_1() -> None:
    assert labels(FLAGS) == {"label_columns": "*"}
    title = {"title": list("abcd")}
    assert labels({**FLAGS, **title}) == {"label_columns": "*", "ignore_columns": ["title"]}
    with pytest.raises(
        ConfigurationError, match="--task is single; row 1 of t.csv has 0 of the la"
    ):
        labels(FLAGS, task="single")


def test_exactly_one_1_in_each_row_is_one_label() -> None:
    assert labels(ONE_HOT) == {"label_columns": "*", "one_hot": True}
    assert labels(ONE_HOT, task="single") == {"label_columns": "*", "one_hot": True}
    assert labels(ONE_HOT, task="multi") == {"label_columns": "*"}


def test_the_name_of_a_column_goes_before_flags() -> None:
    cells = {"label": ["0", "1", "1", "0"], "flash": ["0", "0", "1", "1"]}
    assert labels(cells) == {"label_column": "label"}
    assert labels(cells, label_column="flash") == {"label_column": "flash"}
    assert labels(cells, task="multi") == {"label_columns": "*"}
    words = {**FLAGS, "Genre": ["['cat']", "['cat']", "['dog']", "[]"]}
    assert labels(words) == {"labels_column": "Genre"}


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_of_the_rows_are_no_labels(first: int) -> None:
    numbers = [str(first + number) for number in range(8)]
    cells = {"row": numbers, "what": ["x", "y"] * 4}
    assert labels(cells, times=1) == {"label_column": "what"}


def test_the_only_column_is_that_of_the_labels() -> None:
    index = ["0", "1", "2", "3"]
    assert labels({"": index, "Unnamed: 0": index, "what": ["x", "y"] * 2}) == {
        "label_column": "what"
    }


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"one": ["a"], "two": ["b"]}, "any of one ..a., ..... two ..b., ....; expected --label-c"),
        ({"label": ["a"], "class": ["1"]}, "the labels may be in any of label .*class"),
        ({}, "t.csv has no column for the labels beside those of the images and the splits"),
        ({"label": ["", " "]}, "column label is empty; expected --label-column"),
    ],
)
def test_what_cannot_be_told(cells: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        labels(cells)


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([str(20 + 1.5 * i) for i in range(20)], "20 different numbers in 20 rows, such as 20.0"),
        (["1.5", "2.5", "3.5", "1.5"], "3 different numbers in 4 rows"),
        (["0.1", "0.2", "0.3"] * 10, "3 different numbers in 30 rows, such as 0.1, 0.2, 0.3"),
        (["0,13", "0,77", "0,2"], "3 different numbers in 3 rows, such as 0,13"),
        ([str(i * i) for i in range(30)] + ["0"] * 10, "30 different numbers in 40 rows"),
    ],
)
def test_numbers_to_predict_are_no_classes(cells: List[str], what: str) -> None:
    with pytest.raises(ConfigurationError, match=f"column label has {what}.*AllenCV predicts cla"):
        labels({"label": cells}, times=1)
    assert labels({"label": cells}, times=1, task="single") == {"label_column": "label"}


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        ([f"id{i}" for i in range(20)], "20 different texts in 20 rows, such as 'id0'"),
        ([f"a photo of {i}" for i in range(14)] + ["a photo"] * 8, "15 different texts in 22 rows"),
    ],
)
def test_texts_that_hardly_recur_are_no_classes(cells: List[str], what: str) -> None:
    with pytest.raises(ConfigurationError, match=f"column what has {what}") as error:
        labels({"what": cells}, times=1)
    assert error.value.message.endswith(
        "expected classes, with several images each: choose another column with --label-column, or "
        "take each text as a class with --task single"
    )
    assert labels({"what": cells}, times=1, task="single") == {"label_column": "what"}


def test_words_for_missing_labels_do_not_count_as_labels() -> None:
    cells = {"label": ["cat", "dog", "NaN", ""] * 2}
    found = find_labels("t.csv", cells, TableColumns())
    assert "2 classes" in found.note
    found = find_labels("t.csv", cells, TableColumns(missing_labels="keep"))
    assert "3 classes" in found.note
