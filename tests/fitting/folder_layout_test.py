import os
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting import FolderOptions, FoundData, TableColumns
from allencv.fitting.data_parts import hold_out
from allencv.fitting.folder_layout import find_in_folder
from tests.conftest import write_images

FOLDER = {"type": "image_folder"}


def make(root: Path, *folders: str, count: int = 1) -> Path:
    """Folders with images."""
    return write_images(root, dict.fromkeys(folders, count), size=4)


def find(folder: Path, **options: Any) -> FoundData:
    return find_in_folder(str(folder), TableColumns(), FolderOptions(**options))


def error_of(folder: Path, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        find(folder, **options)
    return error.value.message.replace(f"{folder}/", "").replace(str(folder), "DATA")


def paths(found: FoundData, folder: Path) -> List[str]:
    """Of training, validation and test, below the folder."""
    found_paths = (found.train_path, found.validation_path, found.test_path)
    return [os.path.relpath(path, folder) if path else "" for path in found_paths]


def test_splits(cats_and_dogs: Path) -> None:
    found = find(cats_and_dogs)
    assert found.reader == FOLDER
    assert paths(found, cats_and_dogs) == ["train", "val", "test"]
    assert found.split is None


@pytest.mark.parametrize(("train", "validation"), [("training", "Validation"), ("TRAIN", "dev")])
def test_splits_may_have_other_names(train: str, validation: str, tmp_path: Path) -> None:
    make(tmp_path, f"{train}/a", f"{validation}/a")
    assert paths(find(tmp_path), tmp_path) == [train, validation, ""]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    found = find(tmp_path)
    assert found.reader == FOLDER
    assert paths(found, tmp_path) == [".", ".", ""]
    assert found.split == hold_out(str(tmp_path))


def test_train_and_test_alone(tmp_path: Path) -> None:
    """Validation images are held out of the training images, and the test images are all read."""
    make(tmp_path, "train/a", "train/b", "test/a", "test/b")
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["train", "train", "test"]
    assert found.split == hold_out(str(tmp_path / "train"))


def test_a_folder_of_calibration_images(tmp_path: Path) -> None:
    make(
        tmp_path, *(f"{part}/{label}" for part in ("train", "val", "calibration") for label in "ab")
    )
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["train", "val", ""]
    assert found.calibration_path == f"{tmp_path}/calibration"
    assert not any(note.startswith("not used") for note in found.notes)
    make(tmp_path, "calib/a", "calib/b")
    assert error_of(tmp_path).startswith("DATA is ambiguous: the calibration data may be calib")


def test_a_folder_of_calibration_images_of_other_classes_is_not_used(tmp_path: Path) -> None:
    found = find(make(tmp_path, "train/a", "train/b", "val/a", "val/b", "calibration/camera"))
    assert found.calibration_path is None
    assert any("calibration is not used: its folders (camera)" in note for note in found.notes)


def test_a_test_split_without_labels_is_not_used(tmp_path: Path) -> None:
    make(tmp_path, "train/a", "train/b", "test")
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["train", "train", ""]
    assert f"{tmp_path}/test is not used: it has no folders that are classes" in found.notes


def test_classes_that_are_called_like_splits(tmp_path: Path) -> None:
    found = find(make(tmp_path, "bus", "car", "train", "val"))
    assert (found.reader, paths(found, tmp_path)[0]) == (FOLDER, ".")


@pytest.mark.parametrize(
    ("train", "test", "others"),
    [
        ("seg_train/seg_train", "seg_test/seg_test", ("seg_pred/seg_pred",)),
        ("training_set/training_set", "test_set/test_set", ()),
        ("train_data", "TestData", ()),
        ("train2017", "test2017", ("bus", "car")),
    ],
)
def test_names_with_a_word_of_splits(train: str, test: str, others: Any, tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{label}" for part in (train, test) for label in ("a", "b")), *others)
    message = error_of(tmp_path)
    splits = sorted(path.partition("/")[0] for path in (train, test))
    assert message.startswith(
        f"DATA is ambiguous: if the folders {', '.join(splits)} are splits, use --layout splits; "
        "if the folders "
    )
    assert message.endswith(" are classes, use --layout classes")
    assert error_of(tmp_path, label_pattern="(.)") == message
    assert paths(find(tmp_path, layout="splits"), tmp_path) == [train, train, test]
    found = find(tmp_path, layout="classes", recursive=True)
    assert found.reader == {**FOLDER, "recursive": True}


@pytest.mark.parametrize(
    "folders", [("train", "val"), ("test1", "train"), ("img_test", "img_train")]
)
def test_splits_of_images_without_folders(folders: Any, tmp_path: Path) -> None:
    make(tmp_path, *folders)
    names = ", ".join(folders)
    assert error_of(tmp_path) == (
        f"DATA is ambiguous: if the folders {names} are splits, with the labels in the names of "
        "the files, use --layout splits --label-pattern; if the folders "
        f"{names} are classes, use --layout classes"
    )
    found = find(tmp_path, layout="splits", label_pattern="(.)")
    other, train = sorted(folders, key=lambda name: "train" in name)
    assert paths(found, tmp_path) == (
        [train, other, ""] if other == "val" else [train, train, other]
    )
    assert find(tmp_path, layout="classes").reader == FOLDER


def test_a_class_whose_name_has_a_word_of_splits(tmp_path: Path) -> None:
    make(tmp_path, "bus_station", "train_station")
    assert paths(find(tmp_path), tmp_path)[0] == "."


def test_several_folders_for_one_split(tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{label}" for part in ("train", "val", "valid") for label in "ab"))
    assert error_of(tmp_path) == (
        "DATA is ambiguous: the validation data may be val or valid: choose one with --validation"
    )
    found = find(tmp_path, validation=str(tmp_path / "valid"))
    assert paths(found, tmp_path) == ["train", "valid", ""]
    assert "not used: val" in found.notes
    make(tmp_path, "training/a")
    assert "the train data may be train or training: move the others" in error_of(tmp_path)


def test_splits_beside_what_may_be_classes(tmp_path: Path) -> None:
    make(tmp_path, "bus", "train/day", "train/night", "test/day", "test/night")
    assert error_of(tmp_path) == (
        "DATA is ambiguous: if the folders test, train are splits, and bus not used, use --layout "
        "splits; if all of them are classes, use --layout classes"
    )
    assert paths(find(tmp_path, layout="splits"), tmp_path) == ["train", "train", "test"]
    found = find(tmp_path, layout="classes", recursive=True)
    assert found.reader == {**FOLDER, "recursive": True}
    assert paths(found, tmp_path) == [".", ".", ""]


def test_other_images_beside_train_and_validation(tmp_path: Path) -> None:
    found = find(make(tmp_path, "train/a", "train/b", "val/a", "val/b", "unlabelled"))
    assert paths(found, tmp_path) == ["train", "val", ""]
    assert "not used: unlabelled" in found.notes


@pytest.mark.parametrize("folders", [("test",), ("val/cat", "val/dog")])
def test_a_class_or_a_split(folders: Any, tmp_path: Path) -> None:
    make(tmp_path, "cat", "dog", *folders)
    name = folders[0].partition("/")[0]
    option = {"test": "test", "val": "validation"}[name]
    assert error_of(tmp_path) == (
        f"DATA is ambiguous: if {name}/ is a class, use --layout classes; if it holds {option} "
        f"images, use --{option} {name}, or move it elsewhere"
    )
    given: Dict[str, Any] = {option: str(tmp_path / name)}
    found = find(tmp_path, **given)
    assert found.reader == {**FOLDER, "exclude": [f"{name}/*"]}
    assert name in paths(found, tmp_path)
    recursive = None if name == "test" else True
    assert find(tmp_path, layout="classes", recursive=recursive).split is not None


def test_splits_that_are_not_there(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    assert error_of(tmp_path, layout="splits") == (
        "--layout is splits; expected a folder train in DATA, which has a, b"
    )


def test_a_folder_too_high(tmp_path: Path) -> None:
    make(tmp_path / "x" / "y", "train/train/a", "train/train/b", "val/a", "val/b")
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["x/y/train/train", "x/y/val", ""]
    assert found.notes[0] == f"the data are in {tmp_path}/x/y"


def test_a_folder_of_images_among_others(tmp_path: Path) -> None:
    make(tmp_path, "images/a", "images/b")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").touch()
    assert paths(find(tmp_path), tmp_path) == ["images", "images", ""]


def test_class_folders_with_one_folder_inside(tmp_path: Path) -> None:
    """As ImageNet's small versions have them; their validation images have no class folders."""
    make(tmp_path, "train/n01/images", "train/n02/images", "val/images")
    found = find(tmp_path)
    assert found.reader == {**FOLDER, "recursive": True}
    assert paths(found, tmp_path) == ["train", "train", ""]
    assert any("val is not used: its folders (images) are not classes" in n for n in found.notes)


@pytest.mark.parametrize(
    "folders",
    [
        ("2019/cat", "2019/dog", "2020/cat", "2020/dog"),
        ("2019/cat", "2020"),
        ("2019/x/cat", "2019/x/dog", "2020/y/cat", "2020/y/dog"),
    ],
)
def test_two_levels_of_folders(folders: Any, tmp_path: Path) -> None:
    make(tmp_path, *folders)
    message = error_of(tmp_path)
    assert message.startswith(
        "DATA is ambiguous: if the labels are the outer folders, 2019, 2020, use --recursive; if "
        "they are the folders inside these, cat"
    )
    pattern = re.findall("--label-pattern '(.*)'", message)[0]
    assert find(tmp_path, label_pattern=pattern).reader["label_pattern"] == pattern
    assert find(tmp_path, recursive=True).reader == {**FOLDER, "recursive": True}


def test_labels_in_the_names_of_files(tmp_path: Path) -> None:
    images = make(tmp_path, "all") / "all"
    message = "DATA has images, but no class folders and no table; expected a folder for each class"
    assert error_of(images).startswith(message)
    found = find(images, label_pattern="(.)")
    assert found.reader == {**FOLDER, "label_pattern": "(.)"}
    assert found.split == hold_out(str(images))
    make(tmp_path / "b", "train", "test")
    found = find(tmp_path / "b", label_pattern="(.)")
    assert paths(found, tmp_path / "b") == ["train", "train", "test"]


def test_folders_of_other_programs(tmp_path: Path) -> None:
    make(tmp_path / "x", "a", "a/@eaDir", "b", "__MACOSX/a", ".ipynb_checkpoints")
    make(tmp_path, "__MACOSX")
    found = find(tmp_path)
    assert found.reader == FOLDER
    assert f"labels: the folders in {tmp_path}/x: a/, b/ (--layout)" in found.notes


def test_links_that_make_a_circle(tmp_path: Path) -> None:
    make(tmp_path, "a", "b")
    (tmp_path / "a" / "up").symlink_to("..")
    assert find(tmp_path).reader == FOLDER


def test_no_images(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert error_of(tmp_path).startswith("DATA has no folders with images and no table; expected")


def rows(count: int, header: str = "file_name,label") -> str:
    return "\n".join([header, *(f"{i:03d}.jpg,{'ab'[i % 2]}" for i in range(count))])


TABLE = {"type": "image_table", "image_column": "file_name", "label_column": "label"}


def test_a_table_in_each_split(tmp_path: Path) -> None:
    make(tmp_path, "train", "validation", "test", count=4)
    for name in ("train", "validation"):
        (tmp_path / name / "metadata.csv").write_text(rows(4))
    found = find(tmp_path)
    assert found.reader == TABLE
    assert paths(found, tmp_path) == ["train/metadata.csv", "validation/metadata.csv", ""]
    assert f"{tmp_path}/test is not used: it has no metadata.csv" in found.notes
    make(tmp_path, "calibration")
    (tmp_path / "calibration" / "metadata.csv").write_text(rows(1))
    assert find(tmp_path).calibration_path == f"{tmp_path}/calibration/metadata.csv"


def test_a_table_beside_images(tmp_path: Path) -> None:
    make(tmp_path, "images", count=4)
    (tmp_path / "list.csv").write_text(rows(4))
    found = find(tmp_path)
    assert found.train_path == str(tmp_path / "list.csv")
    assert found.reader["image_root"] == str(tmp_path / "images")
    (tmp_path / "second.csv").write_text(rows(4))
    assert error_of(tmp_path).startswith("DATA has several tables (list.csv, second.csv); expected")


def test_tables_that_are_called_like_splits(tmp_path: Path) -> None:
    make(tmp_path, "train", "test", count=4)
    for name, text in (
        ("train", rows(4)),
        ("val", rows(2)),
        ("test", "file_name\n000.jpg"),  # without labels
        ("sample_submission", rows(4)),
    ):
        (tmp_path / f"{name}.csv").write_text(text)
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["train.csv", "val.csv", ""]
    assert "not used: sample_submission.csv, test.csv" in found.notes


def test_several_tables_for_one_split(tmp_path: Path) -> None:
    make(tmp_path, "images", count=4)
    for name in ("train", "val", "valid"):
        (tmp_path / f"{name}.csv").write_text(rows(4))
    assert error_of(tmp_path) == (
        "DATA is ambiguous: the validation data may be val.csv or valid.csv: choose "
        "one with --validation"
    )
    found = find(tmp_path, validation=str(tmp_path / "val.csv"))
    assert paths(found, tmp_path) == ["train.csv", "val.csv", ""]
    assert "not used: valid.csv" in found.notes


def test_a_table_beside_class_folders(tmp_path: Path) -> None:
    make(tmp_path, "cat", "dog", count=4)
    paths_of = [f"{label}/{i:03d}.jpg,{'ab'[i % 2]}" for label in ("cat", "dog") for i in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *paths_of]))
    assert error_of(tmp_path) == (
        "DATA is ambiguous: if the labels are in the table, give labels.csv as DATA; if they are "
        "the names of the folders, cat, dog, use --layout classes"
    )
    assert find(tmp_path, layout="classes").reader == FOLDER
    (tmp_path / "labels.csv").write_text("epoch,loss\n1.5,2.5\n")  # not of images
    assert find(tmp_path).reader == FOLDER


def test_class_folders_whose_names_differ_only_in_case(tmp_path: Path) -> None:
    make(tmp_path, "train/Cat", "train/Dog", "val/cat", "val/dog")
    assert error_of(tmp_path) == (
        "the class folders in val have other names than those in train ('cat' and 'Cat', 'dog' and "
        "'Dog' differ only in case: give them the same name)"
    )


def test_empty_folders_beside_the_only_one_with_images(tmp_path: Path) -> None:
    make(tmp_path, "train/cat", "train/dog")
    (tmp_path / "val" / "cat").mkdir(parents=True)
    found = find(tmp_path)
    assert paths(found, tmp_path) == ["train", "train", ""]
    assert f"not used, as they have no images: {tmp_path}/val" in found.notes


def test_a_link_to_the_folder_that_it_is_in(tmp_path: Path) -> None:
    make(tmp_path, "cat", "dog")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert find(tmp_path).reader == FOLDER


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    make(tmp_path, "c\x07", "dog")
    assert rf"labels: the folders in {tmp_path}: c\x07/, dog/ (--layout)" in find(tmp_path).notes
