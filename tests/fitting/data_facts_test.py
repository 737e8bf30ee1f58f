import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.fitting import DataFacts, FoundData, examine_data
from allencv.fitting.data_facts import data_config, found_lines, hold_out_for_calibration
from allencv.fitting.data_parts import calibration_fraction, decide_calibration, hold_out
from tests.conftest import write_images


def facts(train: Path, validation: Any = None, test: Any = None) -> DataFacts:
    paths = [str(path) if path else None for path in (train, validation or train, test)]
    split = None if validation else hold_out(str(train))
    return examine_data(FoundData({"type": "image_folder"}, *paths, split))


def test_counts_and_sizes(cats_and_dogs: Path) -> None:
    found = facts(*(cats_and_dogs / part for part in ("train", "val", "test")))
    assert (found.num_train, found.num_validation, found.num_test) == (24, 10, 8)
    assert found.counts == {"Cat": 12, "Dog": 12}
    assert found.imbalance == 1
    assert 40 <= found.height < 80
    assert (found.is_gray, found.unreadable, found.warnings) == (False, [], [])


def test_test_images_are_read_whole_where_others_are_held_out(cats_and_dogs: Path) -> None:
    found = facts(cats_and_dogs / "train", test=cats_and_dogs / "test")
    assert (found.num_train, found.num_validation, found.num_test) == (20, 4, 8)


def test_images_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / part, {"cat": 4, "dog": 4})
    cut, text = tmp_path / "train" / "cat" / "001.jpg", tmp_path / "val" / "dog" / "002.jpg"
    cut.write_bytes(cut.read_bytes()[:500])
    text.write_bytes(b"")
    found = facts(tmp_path / "train", tmp_path / "val")
    assert [each.partition(": ")[0] for each in found.unreadable] == [str(cut), str(text)]
    assert found.unreadable[1].endswith(": the file is empty (0 bytes)")
    assert (found.num_train, found.num_validation) == (8, 8)


def test_all_files_are_seen_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first image is decoded."""
    monkeypatch.setattr("allencv.fitting.data_facts.LOOKED_AT", 1)
    write_images(tmp_path, {"a": 2, "b": 2}, size=4)
    write_images(tmp_path / "val", {"a": 1, "b": 1}, size=4)
    rows = [f"{label}/{i:03d}.jpg,{label}" for label in "ab" for i in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    (tmp_path / "v.csv").write_text("file,label\nval/a/000.jpg,a\nval/b/000.jpg,b\n")
    (tmp_path / "b" / "001.jpg").write_bytes(b"")
    reader = {"type": "image_table", "image_column": "file", "label_column": "label"}
    found = examine_data(FoundData(reader, *(str(tmp_path / f"{n}.csv") for n in "tv")))
    assert sorted(each.removeprefix(f"{tmp_path}/") for each in found.unreadable) == [
        "a/002.jpg: No such file or directory",
        "b/001.jpg: the file is empty (0 bytes)",
        "b/002.jpg: No such file or directory",
    ]


def test_a_split_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    write_images(tmp_path / "val", {"cat": 1, "dog": 1})
    for path in (tmp_path / "val").rglob("*.jpg"):
        path.write_bytes(b"text")
    with pytest.raises(ConfigurationError, match="none of 2 images of the validation data can be"):
        facts(tmp_path / "train", tmp_path / "val")


def test_what_is_odd_about_labels(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"Cat": 2, "cat": 2, "dog": 2})
    write_images(tmp_path / "val", {"cat": 2, "dog": 2})
    found = facts(tmp_path / "train", tmp_path / "val")
    assert found.warnings[:2] == [
        "labels that look the same: 'Cat' (2 in train), 'cat' (2 in train)",
        "labels without an image in the validation data: Cat",
    ]
    with pytest.raises(ConfigurationError) as error:
        facts(tmp_path / "val", tmp_path / "train")
    assert error.value.message.endswith(
        "have labels that the training data lack: Cat; expected labels among cat, dog ('Cat' and "
        "'cat' differ only in case: give them the same name)"
    )
    (tmp_path / "one").mkdir()
    (tmp_path / "val" / "dog").rename(tmp_path / "one" / "dog")
    with pytest.raises(ConfigurationError, match="one' has images of dog; expected two classes"):
        facts(tmp_path / "one")


def test_what_the_readers_warn_of_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "notes.txt").touch()
    found = facts(tmp_path)
    assert found.warnings == [
        f"{tmp_path}: files beside the class folders are not used (1): notes.txt"
    ]
    assert "WARNING" not in {record.levelname for record in caplog.records}


def test_a_data_set_of_torchvision(tmp_path: Path) -> None:
    """Its paths are dictionaries."""
    root = write_images(tmp_path / "food-101" / "images", {"pho": 2, "waffles": 2}, size=4)
    (root.parent / "meta").mkdir()
    for number, part in enumerate(("train", "test")):
        listed = f'{{"waffles": ["waffles/00{number}"], "pho": ["pho/00{number}"]}}'
        (root.parent / "meta" / f"{part}.json").write_text(listed)
    reader = {"type": "torchvision_dataset", "dataset": "Food101"}
    splits = [{"root": str(tmp_path), "split": split} for split in ("train", "test")]
    assert examine_data(FoundData(reader, *splits)).counts == {"pho": 1, "waffles": 1}


def test_the_config_of_the_data() -> None:
    split = hold_out("a")
    config = data_config(FoundData({"type": "image_folder"}, "a", "a", "b", split))
    assert config["dataset_reader"]["split"] == {"part": "train", **split}
    assert config["validation_dataset_reader"]["split"] == {"part": "validation", **split}
    assert config["test_data_path"] == "b"


def test_the_images_that_cannot_be_read_are_shown_up_to_ten() -> None:
    unreadable = [f"{number}.jpg: truncated" for number in range(12)]
    found = FoundData({"type": "image_folder"}, "a", "b", notes=["training: a"])
    facts = DataFacts({"x": 1, "y": 2}, 3, 2, 0, False, 4, 4, False, unreadable)
    shown = found_lines("a", found, facts)
    assert shown[:4] == [
        "Found in a:",
        "  training: a",
        "  images: 3 for training, 2 for validation",
        "  2 labels: y 2, x 1",
    ]
    assert shown[4:6] == [
        "  warning: images that cannot be read and are left out (12; --on-error):",
        "    0.jpg: truncated",
    ]
    assert shown[-2:] == ["    9.jpg: truncated", "    and 2 more"]


def test_copies_of_training_images(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    (tmp_path / "val" / "cat" / "001.jpg").unlink()
    (warning,) = facts(tmp_path / "train", tmp_path / "val").warnings
    assert warning.startswith(
        "validation images with the pixels of training images, which makes scores "
        f"too good (3 of 3 decoded; allencv check-data compares all): {tmp_path}/val/cat/000.jpg, "
    )


def test_images_that_lose_their_range(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 3, "dog": 3})
    ramp = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "cat" / "x.tif")
    (warning,) = facts(tmp_path).warnings
    assert warning.startswith(
        f"images that lose their range (1 of 7 decoded images): {tmp_path}/cat/x.tif: floating "
        "point, with values from 0 to 1 where 0 to 255 is expected; set dataset_reader.value_range"
    )


def test_labels_that_cannot_be_written(tmp_path: Path) -> None:
    write_images(tmp_path, {"a\rb": 2, "dog": 2})
    with pytest.raises(ConfigurationError) as error:
        facts(tmp_path)
    assert error.value.message == (
        rf"{tmp_path}: the label 'a\rb' cannot be kept in a vocabulary: it has a line break; "
        "expected another name"
    )


def test_one_image_cannot_be_held_out(tmp_path: Path) -> None:
    write_images(tmp_path, {"cat": 1, "dog": 1})
    with pytest.raises(ConfigurationError) as error:
        facts(tmp_path)
    assert error.value.message == (
        f"{tmp_path} has too few images of each class to hold some out for validation; expected "
        "more images, or separate validation data (--validation)"
    )


@pytest.mark.parametrize("has_validation", [False, True])
def test_images_are_held_out_for_calibration(tmp_path: Path, has_validation: bool) -> None:
    for label, color in (("ant", 90), ("bee", 200)):
        (tmp_path / "all" / label).mkdir(parents=True)
        (tmp_path / "val" / label).mkdir(parents=True)
        Image.new("L", (8, 8), color).save(tmp_path / "val" / label / "v.png")
        pixels = np.random.default_rng(color).integers(0, 255, (1000, 6, 6), np.uint8)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / "all" / label / f"{number}.png")
    train = str(tmp_path / "all")
    validation = str(tmp_path / "val") if has_validation else train
    split = None if has_validation else {"fraction": 0.2, "by": "stratified", "of": train}
    found = FoundData({"type": "image_folder"}, train, validation, split=split)
    before = examine_data(found)
    facts = hold_out_for_calibration(found, before)
    assert found.calibration_fraction == 0.1
    assert facts.num_calibration == 200
    assert facts.num_train == before.num_train - 200
    assert sum(facts.counts.values()) == facts.num_train
    assert f"{facts.num_train} for training, {facts.num_validation} for validation, 200 for" in (
        "".join(found_lines("pets", found, facts))
    )
    config = data_config(found)
    assert config["calibration_data_path"] == train
    parts = []
    for key, path in (
        ("dataset_reader", "train_data_path"),
        ("validation_dataset_reader", "validation_data_path"),
        ("calibration_dataset_reader", "calibration_data_path"),
    ):
        reader = DatasetReader.from_params(Params(config[key]))
        assert isinstance(reader, ImageDatasetReader)
        parts.append({str(sample.image) for sample in reader.read_samples(config[path])})
    assert [len(each) for each in parts] == [facts.num_train, facts.num_validation, 200]
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("has_validation", [False, True])
def test_calibration_images_of_their_own(tmp_path: Path, has_validation: bool) -> None:
    write_images(tmp_path / "train", {"ant": 10, "bee": 10}, seed=1)
    write_images(tmp_path / "val", {"ant": 2, "bee": 2}, seed=2)
    own = write_images(tmp_path / "calibration", {"ant": 3, "bee": 4}, seed=3)
    train = str(tmp_path / "train")
    split = None if has_validation else {"fraction": 0.2, "by": "stratified", "of": train}
    found = FoundData(
        {"type": "image_folder"},
        train,
        str(tmp_path / "val") if has_validation else train,
        split=split,
        calibration_path=str(own),
    )
    decide_calibration(found, True)
    facts = hold_out_for_calibration(found, examine_data(found))
    assert (facts.num_train, facts.num_calibration) == (20 if has_validation else 16, 7)
    assert not facts.is_calibration_held_out
    said = "\n".join(found_lines("pets", found, facts))
    assert f"calibration: {own}, on which the trained model learns when not to answer" in said
    assert " for validation, 7 for calibration" in said
    config = data_config(found)
    key = "validation_dataset_reader" if has_validation else "calibration_dataset_reader"
    reader = DatasetReader.from_params(Params(config[key]))
    assert isinstance(reader, ImageDatasetReader)
    assert len(list(reader.read_samples(config["calibration_data_path"]))) == 7
    rows = replace(found, calibration_path={"path": "t.csv", "split": "calib"})
    decide_calibration(rows, True)
    assert "calibration: rows with the split calib, on which" in rows.notes[-1]
    found.notes = []
    decide_calibration(found, False)
    assert found.notes[-1] == f"not used: {own} (--no-calibration)"
    assert "calibration_data_path" not in data_config(found)


def test_calibration_images_are_compared_with_the_others(tmp_path: Path) -> None:
    train = write_images(tmp_path / "train", {"ant": 4, "bee": 4}, seed=1)
    val = write_images(tmp_path / "val", {"ant": 2, "bee": 2}, seed=2)
    own = write_images(tmp_path / "calibration", {"ant": 2, "cow": 2}, seed=3)
    found = FoundData({"type": "image_folder"}, str(train), str(val), calibration_path=str(own))
    with pytest.raises(ConfigurationError, match="the calibration data .* lack: cow"):
        examine_data(found)
    found.calibration_path = str(train)
    with pytest.raises(ConfigurationError, match="calibration data .* have the images of the tr"):
        examine_data(found)
    found.calibration_path = str(val)
    warnings = examine_data(found).warnings
    assert any("in both the validation and the calibration data" in each for each in warnings)


def test_few_images_and_shards_are_not_held_out() -> None:
    folder = FoundData({"type": "image_folder"}, "a", "b")
    assert calibration_fraction(folder, 1999) is None
    assert calibration_fraction(folder, 2000) == 0.1
    assert calibration_fraction(folder, 100_000) == 0.02
    folder.split = {"fraction": 0.2}
    assert calibration_fraction(folder, 1599) is None
    assert calibration_fraction(folder, 1600) == 0.1
    assert calibration_fraction(FoundData({"type": "webdataset"}, "a", "b"), 5000) is None
