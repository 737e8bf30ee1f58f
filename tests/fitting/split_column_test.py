from typing import Any, List, Optional

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting.options import TableColumns
from allencv.fitting.split_column import find_splits


def splits(name: str, *cells: str, given: Optional[str] = None) -> Any:
    """The words for the parts, or `None`."""
    columns = {"label": ["a"] * len(cells), name: list(cells)}
    found = find_splits("t.csv", columns, TableColumns(split_column=given))
    return None if found is None else found.values


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        (
            "split",
            ["train", "val", "test"],
            {"train": "train", "validation": "val", "test": "test"},
        ),
        (
            "split",
            ["train", "val", "calibration"],
            {"train": "train", "validation": "val", "calibration": "calibration"},
        ),
        ("Split", ["TRAIN", " TEST "], {"train": "TRAIN", "test": "TEST"}),
        ("subset", ["training", "valid"], {"train": "training", "validation": "valid"}),
        ("is_valid", ["False", "True"], {"train": "False", "validation": "True"}),
        ("is_test", ["1", "0"], {"train": "0", "test": "1"}),
        ("set", ["a", "b"], None),  # of something else
        ("fold", ["1", "train"], None),
        ("data set", ["train", "test"], {"train": "train", "test": "test"}),
        ("mode", ["train", "val"], {"train": "train", "validation": "val"}),
        ("train_test", ["Train", "Test"], {"train": "Train", "test": "Test"}),
        ("mode", ["train", "train"], None),  # says nothing
        ("category", ["train", "test"], None),  # labels
        ("is_train", ["1", "0"], {"train": "1", "test": "0"}),
        ("is_training_img", ["1", "0"], {"train": "1", "test": "0"}),
        ("train", ["True", "False"], {"train": "True", "test": "False"}),
        ("valid", ["1", "0"], None),  # of the images
    ],
)
def test_a_column_of_splits(name: str, cells: List[str], expected: Any) -> None:
    assert splits(name, *cells) == expected
    assert splits(name, *cells, given="none") is None


def test_the_user_names_the_column() -> None:
    assert splits("fold", "train", "val", given="fold") == {"train": "train", "validation": "val"}


def test_the_user_names_a_column_of_0_and_1() -> None:
    assert splits("is_train", "1", "0", given="is_train") == {"train": "1", "test": "0"}
    assert splits("valid", "1", "0", given="valid") == {"train": "0", "validation": "1"}


def test_several_columns_of_splits() -> None:
    columns = {"split": ["train", "val"], "is_test": ["0", "1"]}
    message = "may be in any of the columns split, is_test; choose one with --split-column"
    with pytest.raises(ConfigurationError, match=message):
        find_splits("t.csv", columns, TableColumns())
    found = find_splits("t.csv", columns, TableColumns(split_column="is_test"))
    assert found is not None
    assert found.note == "splits: column is_test, train 1 (0), test 1 (1) (--split-column)"


def test_trains_in_images() -> None:
    columns = {name: ["0", "1", "0"] for name in ("bus", "train")}
    message = (
        "t.csv: column train is ambiguous: if it has the splits, use --split-column train; if "
        "it is a label, as bus may be, use --split-column none"
    )
    with pytest.raises(ConfigurationError, match=message):
        find_splits("t.csv", columns, TableColumns())
    for given in (TableColumns(split_column="train"), TableColumns(label_column="bus")):
        found = find_splits("t.csv", columns, given)
        assert found is not None
        assert found.values == {"train": "1", "test": "0"}
    assert find_splits("t.csv", columns, TableColumns(split_column="none")) is None


@pytest.mark.parametrize(
    ("name", "cells", "given"),
    [
        ("split", ["train", "val", "extra"], None),
        ("split", ["train", "val", ""], None),
        ("split", ["val", "test"], None),  # nothing to train on
        ("split", ["train", "val", "dev"], None),
        ("split", ["0", "1", "2"], None),
        ("kind", ["a", "b"], "kind"),
    ],
)
def test_other_words(name: str, cells: List[str], given: Optional[str]) -> None:
    with pytest.raises(
        ConfigurationError, match=f"t.csv: column {name} has the values '.*-column none"
    ):
        splits(name, *cells, given=given)
