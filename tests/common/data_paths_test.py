from typing import Any

import pytest

from allencv.common.data_paths import KEYS, data_of_text, data_text, with_one_key


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("pets/train", "train_data_path"),
        ("pets/train2", "validation_data_path"),
        ("t.csv", "test_data_path"),
        ("elsewhere", KEYS),
    ],
)
def test_the_key_of_the_path(path: str, key: str) -> None:
    paths: Any = {
        "train_data_path": "pets/train",
        "validation_data_path": "pets/train2",
        "test_data_path": {"path": "t.csv", "split": "test"},
    }
    message = with_one_key(f"'{path}' ({KEYS}) does not exist", paths)
    assert message == f"'{path}' ({key}) does not exist"


def test_one_path_under_two_keys() -> None:
    paths = {"train_data_path": "pets", "validation_data_path": "pets"}
    assert with_one_key(f"'pets' ({KEYS})", paths) == "'pets' (train_data_path)"


@pytest.mark.parametrize("data", ["pets/train", {"path": "pets", "split": "test"}])
def test_a_text_of_a_path(data: Any) -> None:
    assert data_of_text(data_text(data)) == data
