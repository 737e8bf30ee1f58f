import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.fitting import find_data
from allencv.fitting.found_data import HOLD_OUT
from allencv.fitting.table_columns import TableColumns
from tests.conftest import write_images


def find(data: Any, **columns: str) -> Any:
    return find_data(str(data), TableColumns(**columns), root="elsewhere")


def test_a_folder_with_parts(cats_and_dogs: Path) -> None:
    found = find(cats_and_dogs)
    assert found.reader == {"type": "image_folder"}
    assert (found.train_path, found.validation_path, found.test_path) == tuple(
        str(cats_and_dogs / part) for part in ("train", "val", "test")
    )
    assert found.split is None


@pytest.mark.parametrize(("train", "validation"), [("training", "Validation"), ("TRAIN", "dev")])
def test_parts_may_have_other_names(train: str, validation: str, tmp_path: Path) -> None:
    for part in (train, validation):
        write_images(tmp_path / part, {"a": 1, "b": 1})
    found = find(tmp_path)
    assert found.train_path == str(tmp_path / train)
    assert found.validation_path == str(tmp_path / validation)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    write_images(tmp_path, {"a": 1, "b": 1})
    found = find(tmp_path)
    assert found.train_path == found.validation_path == str(tmp_path)
    assert found.split == HOLD_OUT


def test_without_validation_images_some_are_held_out(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path / "test", {"": 2})  # without labels: nothing to evaluate on
    found = find(tmp_path)
    assert found.train_path == found.validation_path == str(tmp_path / "train")
    assert found.split == HOLD_OUT
    assert found.test_path is None


def test_a_folder_with_a_table(tmp_path: Path) -> None:
    write_images(tmp_path, {"images": 3})
    (tmp_path / "list.csv").write_text("file,label\n000.jpg,a\n001.jpg,b\n002.jpg,a\n")
    found = find(tmp_path)
    assert found.train_path == str(tmp_path / "list.csv")
    assert found.reader["image_root"] == str(tmp_path / "images")
    shutil.copy(tmp_path / "list.csv", tmp_path / "second.csv")
    with pytest.raises(ConfigurationError, match="several tables .list.csv, second.csv."):
        find(tmp_path)


@pytest.mark.parametrize(
    ("line", "reader"),
    [
        ("a b/000.jpg 3", {"type": "image_list", "delimiter": " "}),
        ("a b/000.jpg\tcat dog", {"type": "image_list", "delimiter": "\t"}),
        ("a b/000.jpg\t0,1,1", {"type": "image_list", "multi_label": True}),
        ("a b/000.jpg,cat", {"type": "image_list", "delimiter": ","}),
    ],
)
def test_a_list(line: str, reader: Any, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"\n{line}\n")
    assert find(tmp_path / "list.txt").reader == reader


def test_a_data_set_of_torchvision_with_train(tmp_path: Path) -> None:
    found = find("cifar10")
    assert found.reader == {"type": "torchvision_dataset", "dataset": "CIFAR10", "download": True}
    assert found.train_path == {"root": "elsewhere", "train": True}
    assert found.validation_path == {"root": "elsewhere", "train": False}


def test_a_data_set_of_torchvision_with_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Food101 has no part called "val"."""
    monkeypatch.chdir(tmp_path)
    root = write_images(tmp_path / "elsewhere" / "food-101" / "images", {"waffles": 2, "pho": 1})
    (root.parent / "meta").mkdir()
    for part in ("train", "test"):
        listed = {"waffles": ["waffles/000"], "pho": ["pho/000"]}
        (root.parent / "meta" / f"{part}.json").write_text(json.dumps(listed))
    found = find("Food101")
    assert found.train_path == {"root": "elsewhere", "split": "train"}
    assert found.validation_path == {"root": "elsewhere", "split": "test"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing", "DATA is 'nothing'; expected a folder, a table or a list that is there"),
        ("FakeData", "torchvision's FakeData has no part for validation"),
        ("empty", "empty has no folders and no table"),
        ("words.doc", "DATA is the file 'words.doc'; expected a table .*[.]csv.* or a list"),
        ("words.txt", "the first line is 'one two three'; expected 'path label'"),
    ],
)
def test_what_is_no_data(
    data: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("words.doc", "words.txt"):
        (tmp_path / name).write_text("one two three\n")
    with pytest.raises(ConfigurationError, match=message):
        find(data)


def test_numbers_are_no_images(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "numbers.csv", np.eye(3), delimiter=",", header="a,b,c", comments="")
    with pytest.raises(ConfigurationError, match="no column of a, b, c has paths of images"):
        find(tmp_path / "numbers.csv")
