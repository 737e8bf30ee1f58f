import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.fitting import FolderOptions, FoundData, TableColumns, examine_data, find_data
from allencv.fitting.data_parts import hold_out
from tests.conftest import write_images


def find(data: Any, **options: Any) -> FoundData:
    folders = {key: options.pop(key) for key in FolderOptions.__annotations__ if key in options}
    return find_data(str(data), TableColumns(**options), "elsewhere", FolderOptions(**folders))


TABLE = "file,label\n" + "".join(f"{i:03d}.jpg,{'ab'[i % 2]}\n" for i in range(4))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    write_images(tmp_path, {"images": 4}, size=4)
    (tmp_path / "list.csv").write_text(TABLE)
    return tmp_path / "list.csv"


def test_a_table(table: Path) -> None:
    found = find(table)
    assert found.reader["image_root"] == str(table.parent / "images")
    assert found.train_path == found.validation_path == str(table)
    assert found.split == hold_out(str(table))


def test_validation_and_test_data_that_the_user_names(table: Path) -> None:
    for name in ("val.csv", "test.csv"):
        shutil.copy(table, table.parent / name)
    found = find(table, validation="val.csv", test="test.csv")
    assert (found.validation_path, found.test_path) == ("val.csv", "test.csv")
    assert found.split is None
    found = find(table, test="test.csv")
    assert found.split == hold_out(str(table))
    with pytest.raises(ConfigurationError, match="--validation is '.*images'; expected a path to"):
        find(table, validation=str(table.parent / "images"))
    (table.parent / "images" / "a").mkdir()
    with pytest.raises(ConfigurationError, match="--validation is 'nope', which does not exist"):
        find(table.parent / "images", validation="nope", label_pattern="(.)")


def test_a_table_with_a_column_of_splits(table: Path) -> None:
    rows = [f"{i:03d}.jpg,{'ab'[i % 2]},{'test' if i > 2 else 'train'}" for i in range(4)]
    table.write_text("\n".join(["file,label,split", *rows]))
    found = find(table)
    train = {"path": str(table), "split": "train"}
    assert found.train_path == found.validation_path == train
    assert found.split == hold_out(train)
    assert found.test_path == {"path": str(table), "split": "test"}
    other = find(table, validation="val.csv")  # what the user says goes before the column
    assert (other.train_path, other.validation_path) == (str(table), "val.csv")
    with pytest.raises(ConfigurationError, match="column split has the splits, leave out val.csv"):
        find(table, validation="val.csv", split_column="split")
    in_folder = find(table.parent)
    assert (in_folder.train_path, in_folder.split) == (train, found.split)
    assert in_folder.test_path == found.test_path


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ("images", {"label_column": "x"}, "--label-column is 'x', but it has no effect on DATA"),
        ("list.csv", {"recursive": True}, "--recursive is True, but it has no effect on DATA"),
        ("cifar10", {"encoding": "utf-16"}, "--encoding is 'utf-16', but it has no effect"),
        ("cifar10", {"task": "multi"}, "--task is multi, but torchvision_dataset reads one"),
        (
            "list.csv",
            {"task": "single", "label_delimiter": "|"},
            "--label-delimiter is '|' and --task is single; expected one of them",
        ),
    ],
)
def test_options_that_are_not_for_the_data(
    data: str, options: Any, message: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    write_images(Path("images"), {"a": 1, "b": 1}, size=4)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        find(data, **options)


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
    (tmp_path / "list.txt").write_text(f"\n{line}\n", encoding="utf-16")
    assert find(tmp_path / "list.txt").reader == reader


def test_what_the_user_says_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("000.jpg\t0,1,1\n")
    flags = find(tmp_path / "list.txt", task="single").reader
    assert flags == {"type": "image_list", "delimiter": "\t"}
    (tmp_path / "list.txt").write_text("000.jpg;é\n", encoding="cp1252")
    given = {"delimiter": ";", "encoding": "cp1252", "image_root": "images"}
    assert find(tmp_path / "list.txt", **given).reader == {"type": "image_list", **given}
    with pytest.raises(
        ConfigurationError, match="list.txt, line 1: .* is not utf-8 .*; set --encoding"
    ):
        find(tmp_path / "list.txt", delimiter=";")
    with pytest.raises(ConfigurationError, match="--task is multi; .* has the label 'é'"):
        find(tmp_path / "list.txt", **given, task="multi")


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
        ("nothing", "DATA is 'nothing'; expected an existing folder, table or list, or"),
        ("FakeData", "torchvision's FakeData has no part for validation"),
        ("empty", "empty has no folders with images and no table"),
        (
            "words.doc",
            "DATA is the file 'words.doc'; expected a folder, a table .*[.]csv.* or a list",
        ),
        ("words.txt", "the first line is 'one two three'; expected a path and a label"),
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


@pytest.mark.parametrize("option", ["validation", "test"])
def test_the_other_data_are_not_the_same(cats_and_dogs: Path, tmp_path: Path, option: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(cats_and_dogs)
    for other, what in (
        (cats_and_dogs, "DATA itself"),
        (link, "DATA itself"),
        (cats_and_dogs.parent, "the folder that DATA is in"),
    ):
        with pytest.raises(ConfigurationError) as error:
            find_data(
                str(cats_and_dogs), TableColumns(), folders=FolderOptions(**{option: str(other)})
            )
        expected = f"--{option} is {str(other)!r}, {what}; expected other images"
        assert error.value.message == expected


def test_rows_without_a_label(table: Path) -> None:
    table.write_text(f"{TABLE}003.jpg,NaN\n".replace("003.jpg,b\n", ""))
    with pytest.raises(ConfigurationError) as error:
        examine_data(find(table))
    assert "1 line without a label in column label: line 5 ('NaN')" in error.value.message
    assert '--missing-labels "skip" to leave them out' in error.value.message
    assert examine_data(find(table, missing_labels="keep")).counts["NaN"] == 1
    facts = examine_data(find(table, missing_labels="skip"))
    assert set(facts.counts) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image label\na.jpg cat\n",
            "the first line is 'image label'; expected a path and a label, such as "
            "'photos/1.jpg cat', with a space, a tab or a comma between them, as in the "
            "second line: remove a header and comments (--delimiter)",
        ),
        ("a.jpg;cat\n", "the first line is 'a.jpg;cat'; expected --delimiter ';'"),
        (
            "a.jpg polar bear\n",
            "the first line is 'a.jpg polar bear'; expected one character between the path and the "
            "label 'polar bear' that is not in either, such as a tab (--delimiter)",
        ),
    ],
)
def test_what_is_no_line_of_a_list(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ConfigurationError) as error:
        find(tmp_path / "list.txt")
    assert error.value.message == f"{tmp_path / 'list.txt'}: {message}"


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", write_images(tmp_path, {"a": 1}))
    with pytest.raises(ConfigurationError, match="photos.zip', a ZIP archive: unpack it; expected"):
        find(archive)
    Path(archive).rename(tmp_path / "photos.csv")
    with pytest.raises(ConfigurationError, match="photos.csv is a ZIP archive: unpack it; expect"):
        find(tmp_path / "photos.csv")
