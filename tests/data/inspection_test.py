import io
from pathlib import Path

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.data import remote
from allencv.data.inspection import examine, examine_all, read_splits
from tests.conftest import write_images

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 90, 3), np.uint8)
IMAGE = Image.fromarray(PIXELS)


def test_each_source_of_an_image_is_examined(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "image.png")
    tensor = torch.tensor(PIXELS).permute(2, 0, 1)
    sources = [str(tmp_path / "image.png"), tmp_path / "image.png", IMAGE, PIXELS, tensor]
    facts = [examine(source) for source in (*sources, lambda: PIXELS, tensor / 255)]
    assert {each.error for each in facts} == {None}
    assert {(each.width, each.height) for each in facts} == {(90, 64)}
    assert len({each.pixels for each in facts[:-1]}) == 1
    assert len({each.difference_hash for each in facts}) == 1


def test_an_image_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    IMAGE.save(file, "PNG", exif=exif)
    turned = examine(file.getvalue())
    assert (turned.width, turned.height, turned.orientation) == (64, 90, 6)


def test_images_of_a_config_in_order(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 3, "dog": 2}, size=8)
    write_images(tmp_path / "val", {"dog": 2}, size=8, seed=1)
    (tmp_path / "val" / "dog" / "001.jpg").write_bytes(b"text")
    config = {
        "dataset_reader": {"type": "image_folder", "max_instances": 4},
        "validation_dataset_reader": {"type": "image_folder", "color_mode": "L"},
        "train_data_path": f"{tmp_path}/train",
        "validation_data_path": f"{tmp_path}/val",
    }
    splits = read_splits(Params(config))
    assert [split.name for split in splits] == ["train", "validation"]
    assert splits[0].samples.labels() == {"cat": 3, "dog": 1}
    images = list(examine_all(splits, 3))
    assert [(image.split, image.index, image.labels) for image in images] == [
        *(("train", index, ("cat",)) for index in range(3)),
        ("train", 3, ("dog",)),
        ("validation", 0, ("dog",)),
        ("validation", 1, ("dog",)),
    ]
    assert images[0].name == f"{tmp_path}/train/cat/000.jpg"
    assert [image.facts.error for image in images[:-1]] == [None] * 5
    assert images[-1].facts.error == "not an image in a format that pillow reads"


def test_a_path_may_be_a_dictionary(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 3}, size=8)
    config = {
        "dataset_reader": {"type": "concat", "readers": {"photos": {"type": "image_folder"}}},
        "train_data_path": {"photos": f"{tmp_path}/train"},
    }
    (split,) = read_splits(Params(config))
    assert split.path == {"photos": f"{tmp_path}/train"}
    assert split.samples.labels() == {"cat": 3}


def test_a_table_of_two_splits_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, {"cat": 8}, size=8)
    rows = [f"cat/{number:03d}.jpg,{'ab'[number % 2]}" for number in range(8)]
    (tmp_path / "table.csv").write_text("\n".join(["file,label", *rows]))
    reader = {"type": "image_table", "image_column": "file", "label_column": "label"}
    opened, open_file = [], remote.open_file
    monkeypatch.setattr(remote, "open_file", lambda path: opened.append(path) or open_file(path))
    config = {
        "dataset_reader": {**reader, "split": {"part": "train", "by": "stratified"}},
        "validation_dataset_reader": {
            **reader,
            "split": {"part": "validation", "by": "stratified"},
        },
        "train_data_path": f"{tmp_path}/table.csv",
        "validation_data_path": f"{tmp_path}/table.csv",
    }
    splits = read_splits(Params(config))
    assert [split.samples.labels() for split in splits] == [{"a": 3, "b": 3}, {"a": 1, "b": 1}]
    assert opened == [f"{tmp_path}/table.csv"]


def test_a_file_that_cannot_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("memory://no/a.jpg x\nb.jpg x\n")
    config = {"dataset_reader": {"type": "image_list"}, "train_data_path": f"{tmp_path}/list.txt"}
    first, second = examine_all(read_splits(Params(config)), 1)
    assert (first.name, first.facts.error) == ("memory://no/a.jpg", "cannot be fetched (/no/a.jpg)")
    assert (second.name, second.facts.error) == (f"{tmp_path}/b.jpg", "No such file or directory")


def test_configs_without_images() -> None:
    with pytest.raises(ConfigurationError, match="the config has no train_data_path"):
        read_splits(Params({"dataset_reader": "image_folder"}))
    config = {"dataset_reader": {"type": "sequence_tagging"}, "train_data_path": "a"}
    with pytest.raises(ConfigurationError, match="dataset_reader is a SequenceTagging"):
        read_splits(Params(config))
