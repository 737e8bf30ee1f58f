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
        ("Split", ["TRAIN", " TEST "], {"train": "TRAIN", "test": "TEST"}),
        ("subset", ["training", "valid"], {"train": "training", "validation": "valid"}),
        ("is_valid", ["False", "True"], {"train": "False", "validation": "True"}),
        ("is_test", ["1", "0"], {"train": "0", "test": "1"}),
        ("set", ["a", "b"], None),  # of something else
        ("fold", ["train", "val"], None),
    ],
)
def test_a_column_of_splits(name: str, cells: List[str], expected: Any) -> None:
    assert splits(name, *cells) == expected
    assert splits(name, *cells, given="none") is None


def test_the_user_names_the_column() -> None:
    assert splits("fold", "train", "val", given="fold") == {"train": "train", "validation": "val"}


@pytest.mark.parametrize(
    ("name", "cells", "given"),
    [
        ("split", ["train", "val", "extra"], None),
        ("split", ["train", "val", ""], None),
        ("split", ["val", "test"], None),  # nothing to train on
        ("split", ["train", "val", "dev"], None),
        ("kind", ["a", "b"], "kind"),
    ],
)
def test_other_words(name: str, cells: List[str], given: Optional[str]) -> None:
    with pytest.raises(ConfigurationError, match=f"t.csv: column {name} has the values '.*'none'"):
        splits(name, *cells, given=given)
