import os
from pathlib import Path
from typing import List

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.inspection import read_splits
from allencv.data.remote import RemoteImage
from allencv.fitting.files_of_splits import look_at_files, shared_images
from tests.conftest import write_images


def shared(**folders: Path) -> List[str]:
    paths = {f"{name}_data_path": str(folder) for name, folder in folders.items()}
    params = Params({"dataset_reader": {"type": "image_folder"}, **paths})
    splits = {split.name: split for split in read_splits(params)}
    return shared_images(splits, {name: look_at_files(splits[name].samples) for name in splits})


def test_files_that_are_not_there_or_empty(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "a.png").write_text("a")
    names = [str(tmp_path / name) for name in ("empty.png", "a.png", "b.png")]
    files = look_at_files([Sample(name) for name in names])
    assert files.missing == {
        names[0]: "the file is empty (0 bytes)",
        names[2]: "No such file or directory",
    }
    assert files.identities[2] is None
    assert files.identities[0] != files.identities[1]


def test_what_has_no_file() -> None:
    url = RemoteImage("s3://images/a.png")
    files = look_at_files([Sample(url), Sample("https://a/b.png"), Sample(b"")])
    assert files == ({}, ["s3://images/a.png", "https://a/b.png", None])


def test_other_images_are_not_the_same(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_images(tmp_path / part, {"a": 2, "b": 2}, size=4)
    parts = {"train": "train", "validation": "val", "test": "test"}
    assert shared(**{name: tmp_path / folder for name, folder in parts.items()}) == []


def test_the_images_of_training_are_no_validation_data(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", {"a": 2, "b": 2}, size=4)
    link = tmp_path / "link"
    link.symlink_to(train)
    part = tmp_path / "part"
    for label in "ab":
        (part / label).mkdir(parents=True)
        os.link(train / label / "000.jpg", part / label / "x.jpg")
    for other, count in (
        (train, "4 of 4 images"),
        (link, "4 of 4 images"),
        (part, "2 of 2 images"),
    ):
        with pytest.raises(ConfigurationError) as error:
            shared(train=train, validation=other)
        assert error.value.message == (
            f"the validation data ({other}) have the images of the training data ({train}): "
            f"{count}; expected other images (--validation)"
        )
    with pytest.raises(ConfigurationError, match=r"the test data .*: 2 of 4 images; .*--test"):
        shared(train=part, test=train)


def test_some_images_in_common_are_a_warning(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / part, {"a": 3, "b": 3}, size=4)
    image = tmp_path / "val" / "a" / "copy.jpg"
    image.symlink_to(tmp_path / "train" / "a" / "001.jpg")
    expected = "images in both the training and the validation data, which makes scores"
    (warning,) = shared(train=tmp_path / "train", validation=tmp_path / "val")
    assert warning == f"{expected} too good (1): {image}"
    parts = {"train": tmp_path / "train", "validation": tmp_path / "val"}
    assert len(shared(**parts, test=tmp_path / "val")) == 3
