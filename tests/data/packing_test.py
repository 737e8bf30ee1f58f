import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import fsspec
import numpy as np
import pytest
from allennlp.common.checks import ConfigurationError
from PIL import Image

from allencv.data import packing
from allencv.data.dataset_readers import (
    ImageFolderReader,
    ImageListReader,
    ImageTableReader,
    TorchvisionDatasetReader,
    WebDatasetReader,
)
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.pack_record import RECORD
from allencv.data.packing import PackOptions, index_shards, pack
from allencv.runtime import ImageError
from allencv.runtime.errors import InputError
from tests.conftest import full_disk, write_images

SMALL = PackOptions(max_images=4)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """9 photographs of cats and 6 of dogs."""
    return write_images(tmp_path / "photos", {"cat": 9, "dog": 6}, size=8)


def contents(folder: Path) -> Dict[str, str]:
    """The hash of each file in a folder by its name, but for the record, whose order varies."""
    return {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.iterdir())
        if each.name != RECORD
    }


def members(folder: Path) -> Dict[str, bytes]:
    """The files in all shards, read as others read them."""
    found = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                found[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def read(folder: Any, **arguments: Any) -> Dict[str, Any]:
    """The label of each image by its file in the shard."""
    return {
        sample.image.name: sample.label if sample.labels is None else list(sample.labels)
        for sample in WebDatasetReader(**arguments).read_samples(folder)
    }


def test_files_are_copied_byte_for_byte(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    index = pack(ImageFolderReader(), photos, str(shards), SMALL, 2).index
    expected = {}
    for image in photos.rglob("*.jpg"):
        key = f"{image.parent.name}/{image.stem}"
        expected[f"{key}.jpg"] = image.read_bytes()
        expected[f"{key}.json"] = json.dumps({"label": image.parent.name}).encode()
    assert members(shards) == expected
    assert sorted(os.listdir(shards)) == [
        RECORD,
        "allencv_index.json",
        *(f"shard-00000{number}.tar" for number in range(4)),
    ]
    assert index.counts() == {"cat": 9, "dog": 6}
    assert read(str(shards)) == {
        name: name.partition("/")[0] for name in expected if name.endswith("jpg")
    }


def test_the_order_is_shuffled_or_that_of_the_data(photos: Path, tmp_path: Path) -> None:
    def order(name: str, seed: Any) -> List[str]:
        folder = tmp_path / name
        pack(ImageFolderReader(), photos, str(folder), PackOptions(4, None, seed), 1)
        return list(read(str(folder)))

    names = order("in order", None)
    assert names == sorted(names)
    mixed = list(names)
    random.Random(3).shuffle(mixed)
    assert order("mixed", 3) == mixed
    assert order("otherwise", 4) != mixed


def test_the_same_bytes_for_any_number_of_threads(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers, at_once in ((1, 100), (3, 4)):
        monkeypatch.setattr(packing, "LOOKED_AT", at_once)
        pack(ImageFolderReader(), photos, str(tmp_path / str(workers)), SMALL, workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (PackOptions(max_images=100), [15]),
        (PackOptions(max_images=5), [5, 5, 5]),
        (PackOptions(max_images=7), [7, 7, 1]),
        (PackOptions(max_bytes=10**6), [15]),
        (PackOptions(max_bytes=1), [1] * 15),
    ],
)
def test_the_size_of_shards(
    options: PackOptions, sizes: List[int], photos: Path, tmp_path: Path
) -> None:
    index = pack(ImageFolderReader(), photos, str(tmp_path / "shards"), options, 2).index
    assert [len(shard.files) for shard in index.shards.values()] == sizes


def test_a_number_of_bytes_is_not_exceeded(photos: Path, tmp_path: Path) -> None:
    options = PackOptions(max_bytes=12_000)
    index = pack(ImageFolderReader(), photos, str(tmp_path / "shards"), options, 2).index
    assert 2 < len(index.shards) < 10
    for shard in index.shards.values():
        last = max(range(len(shard.files)), key=shard.starts.__getitem__)
        end = shard.starts[last] + -(-shard.sizes[last] // 512) * 512 + 1024  # the label
        assert end <= 12_000


@pytest.mark.parametrize("name", ["größe", "long" * 40])
def test_what_names_take_is_counted(name: str, tmp_path: Path) -> None:
    """Names that are long or not ASCII need headers of their own."""
    write_images(tmp_path / "photos", {name: 12}, size=8)
    options = PackOptions(max_bytes=30_000)
    pack(ImageFolderReader(), tmp_path / "photos", str(tmp_path / "shards"), options, 1)
    for shard in (tmp_path / "shards").glob("*.tar"):
        assert shard.stat().st_size <= 30_000 + tarfile.RECORDSIZE  # which tar files fill up


# What is packed.


def test_several_labels_and_none(photos: Path, tmp_path: Path) -> None:
    rows = ["cat/000.jpg,wild|big", "cat/001.jpg,big", "dog/000.jpg,"]
    (photos / "table.csv").write_text("\n".join(["file,tags", *rows]))
    table = ImageTableReader(image_column="file", labels_column="tags", labels_delimiter="|")
    pack(table, str(photos / "table.csv"), str(tmp_path / "several"), SMALL, 1)
    assert read(str(tmp_path / "several")) == {
        "cat/000.jpg": ["wild", "big"],
        "cat/001.jpg": ["big"],
        "dog/000.jpg": [],
    }
    unlabelled = ImageFolderReader(labelled=False)
    pack(unlabelled, photos / "cat", str(tmp_path / "none"), SMALL, 1)
    assert sorted(members(tmp_path / "none")) == [f"{number:03d}.jpg" for number in range(9)]
    assert set(read(str(tmp_path / "none"), label_key=None).values()) == {None}


def test_names_that_shards_cannot_hold_are_changed(photos: Path, tmp_path: Path) -> None:
    names = ["a.b.jpg", ".c.JPG", "größe v1.0.Jpeg", "no suffix", f"{'long' * 40}.jpg"]
    for number, name in enumerate(names):
        (photos / f"cat/00{number}.jpg").rename(photos / name)
    lines = [f"{name}\tx" for name in names]
    (photos / "list.txt").write_text("\n".join(lines))
    reader = ImageListReader(delimiter="\t")
    pack(reader, str(photos / "list.txt"), str(tmp_path / "shards"), PackOptions(9, None, None), 1)
    expected = ["a_b.jpg", "_c.jpg", "größe v1_0.jpeg", "no suffix.jpg", f"{'long' * 40}.jpg"]
    assert list(read(str(tmp_path / "shards"))) == expected
    for name, new in zip(names, expected):
        assert members(tmp_path / "shards")[new] == (photos / name).read_bytes()


class Pixels(ImageDatasetReader):
    """Images that are not files: an array, a picture, and the bytes of a file from a function."""

    def read_samples(self, file_path: Any) -> List[Sample]:
        grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "WEBP", lossless=True)
        images = [grey, Image.fromarray(grey), file.getvalue, Image.new("F", (2, 2), 0.5)]
        return [Sample(image, "x") for image in images]


def test_images_that_are_not_files_are_kept_without_loss(tmp_path: Path) -> None:
    pack(Pixels(), "", str(tmp_path / "shards"), PackOptions(9, None, None), 1)
    found = members(tmp_path / "shards")
    names = ["00000000.png", "00000001.png", "00000002.webp", "00000003.tiff"]
    assert [name for name in found if not name.endswith("json")] == names
    for name in names[:2]:
        pixels = np.asarray(Image.open(io.BytesIO(found[name])))
        assert pixels.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert np.asarray(Image.open(io.BytesIO(found[names[3]]))).tolist() == [[0.5, 0.5]] * 2


def test_remote_images_and_shards(photos: Path, tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(photos), "/photos", recursive=True)
    pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 2)
    pack(ImageFolderReader(), "memory://photos", str(tmp_path / "remote"), SMALL, 2)
    files.rm("/photos", recursive=True)
    assert members(tmp_path / "remote") == members(tmp_path / "shards")
    # Other sizes for existing shards.
    again = PackOptions(max_images=6)
    pack(WebDatasetReader(), str(tmp_path / "shards"), str(tmp_path / "again"), again, 2)
    assert sorted(members(tmp_path / "again").values()) == sorted(
        members(tmp_path / "shards").values()
    )


def test_a_dataset_of_torchvision(tmp_path: Path) -> None:
    reader = TorchvisionDatasetReader(dataset="FakeData", arguments={"size": 3})
    pack(reader, {"image_size": (3, 8, 8)}, str(tmp_path / "shards"), SMALL, 1)
    assert len(read(str(tmp_path / "shards"))) == 3


# Interruptions.


@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_command_continues(
    written: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(ImageFolderReader(), photos, str(tmp_path / "whole"), SMALL, 1)
    shards = tmp_path / "shards"
    write, calls = packing.write_shard, []

    def interrupted(path: str, files: Any) -> None:
        if len(calls) == written:
            next(iter(files))
            (shards / f".allencv-{'0' * 32}.tar").write_bytes(b"what SIGKILL leaves")
            raise KeyboardInterrupt
        calls.append(path)
        write(path, files)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    before = {path: path.stat().st_mtime_ns for path in shards.glob("shard-*.tar")}
    if written:
        with pytest.raises(InputError, match="holds unfinished shards of other data; expected a"):
            pack(ImageFolderReader(), photos, str(shards), PackOptions(max_images=5), 1)
    packed = pack(ImageFolderReader(), photos, str(shards), SMALL, 2)
    assert packed.kept == len(before) == written
    assert contents(shards) == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 2).kept == 4


def interrupt(photos: Path, shards: Path, written: int) -> None:
    """Pack with one thread, until some shards are written."""
    write = packing.write_shard

    def interrupted(path: str, files: Any) -> None:
        if path >= str(shards / f"shard-00000{written}.tar"):
            raise KeyboardInterrupt
        write(path, files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "write_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pack(ImageFolderReader(), photos, str(shards), SMALL, 1)


def replace(image: Path) -> None:
    """Replace an image by another of the same size."""
    content = bytearray(image.read_bytes())
    content[-3] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(0, 123))


def test_an_image_that_was_replaced_before_the_command_continues(
    photos: Path, tmp_path: Path
) -> None:
    """By one of the same size. Only its shard is written again."""
    shards = tmp_path / "shards"
    interrupt(photos, shards, 2)
    names = [name for name in members(shards) if name.endswith("jpg")]
    replace(photos / names[0])
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 2).kept == 1
    for name, content in members(shards).items():
        if name.endswith("jpg"):
            assert content == (photos / name).read_bytes()
    pack(ImageFolderReader(), photos, str(tmp_path / "whole"), SMALL, 1)
    index = "allencv_index.json"
    assert (shards / index).read_bytes() == (tmp_path / "whole" / index).read_bytes()


def test_finished_shards_of_other_images_are_refused(photos: Path, tmp_path: Path) -> None:
    """Copies of the images, with other times, are the same images."""
    shards, copies = tmp_path / "shards", tmp_path / "copies"
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    before = contents(shards)
    shutil.copytree(photos, copies)
    for each in copies.rglob("*.jpg"):
        os.utime(each, ns=(0, 123))
    assert pack(ImageFolderReader(), copies, str(shards), SMALL, 1).kept == 4
    replace(copies / "cat" / "000.jpg")
    with pytest.raises(InputError, match=r"the image of '.*tar/cat/000.jpg' has changed since it"):
        pack(ImageFolderReader(), copies, str(shards), SMALL, 1)
    assert contents(shards) == before


def test_other_data_may_follow_before_a_shard_is_finished(photos: Path, tmp_path: Path) -> None:
    """As after a damaged image was repaired."""
    shards = tmp_path / "shards"
    interrupt(photos, shards, 0)
    (photos / "cat" / "000.jpg").unlink()
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    assert len(read(str(shards))) == 14


@pytest.mark.parametrize("cut", [0, 3, 40])
def test_a_record_that_was_cut(photos: Path, tmp_path: Path, cut: int) -> None:
    """The shards that it no longer names are written again."""
    shards = tmp_path / "shards"
    pack(ImageFolderReader(), photos, str(tmp_path / "whole"), SMALL, 1)
    interrupt(photos, shards, 2)
    record = shards / RECORD
    record.write_bytes(record.read_bytes()[: -cut or None])
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 1).kept == 2 - (cut > 0)
    assert contents(shards) == contents(tmp_path / "whole")
    record.write_text("[1]\n")
    with pytest.raises(InputError, match=f"'{record}' is damaged; expected a new folder"):
        pack(ImageFolderReader(), photos, str(shards), SMALL, 1)


def test_a_full_disk_leaves_no_part_of_a_shard(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "shards"
    write = packing.write_shard

    def until_the_third(path: str, files: Any) -> None:
        if path.endswith("2.tar"):
            with full_disk():
                write(path, files)
        write(path, files)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "write_shard", until_the_third)
        with pytest.raises(OSError, match="No space left on device: .*shard-000002.tar"):
            pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    # The thread may have begun another shard before it was stopped.
    left = {*os.listdir(shards)} - {"shard-000003.tar"}
    assert left == {RECORD, "shard-000000.tar", "shard-000001.tar"}
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 1).kept in (2, 3)


def test_two_at_once_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = str(tmp_path / "shards")
    write = packing.write_shard

    def and_again(path: str, files: Any) -> None:
        with pytest.raises(InputError, match=f"another process is packing into '{shards}'"):
            pack(ImageFolderReader(), photos, shards, SMALL, 1)
        write(path, files)

    monkeypatch.setattr(packing, "write_shard", and_again)
    pack(ImageFolderReader(), photos, shards, SMALL, 1)


# What cannot be packed.


def test_a_folder_that_holds_anything_else(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds notes.txt; expected a new or empty folder"):
        pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    (shards / "notes.txt").unlink()
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    before = contents(shards)
    (photos / "cat" / "000.jpg").unlink()
    with pytest.raises(InputError, match="holds other shards .see allencv_index.json.; expected"):
        pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    assert contents(shards) == before


def test_two_images_of_one_name(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "000.png").write_bytes((photos / "cat" / "000.jpg").read_bytes())
    with pytest.raises(InputError) as caught:
        pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 1)
    assert str(caught.value) == (
        f"'{photos}/cat/000.jpg' and '{photos}/cat/000.png' would both be the sample 'cat/000' of "
        "the shards; expected other file names, or --names numbers"
    )
    assert not (tmp_path / "shards").exists()
    numbered = PackOptions(max_images=4, seed=None, numbered=True)
    pack(ImageFolderReader(), photos, str(tmp_path / "shards"), numbered, 1)
    names = list(read(str(tmp_path / "shards")))
    assert names[:3] == ["00000000.jpg", "00000001.png", "00000002.jpg"]


@pytest.mark.parametrize(
    ("label", "reason"), [("a\nb", "it has a line break"), ("@@UNKNOWN@@", "AllenNLP uses")]
)
def test_a_label_that_cannot_be_written(
    label: str, reason: str, photos: Path, tmp_path: Path
) -> None:
    (photos / "cat").rename(photos / label)
    with pytest.raises(ConfigurationError, match=f"the label .* cannot be kept .*: {reason}"):
        pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 1)
    assert not (tmp_path / "shards").exists()


def test_images_that_are_not_there(photos: Path, tmp_path: Path) -> None:
    (photos / "list.txt").write_text("cat/000.jpg x\nlost.jpg x\n")
    with pytest.raises(FileNotFoundError, match="lost.jpg"):
        pack(ImageListReader(), str(photos / "list.txt"), str(tmp_path / "shards"), SMALL, 1)
    (photos / "table.jsonl").write_text('{"file": "cat", "y": "x"}')
    (photos / "text").write_text("what is no image")
    for name, message in (("text", "neither its name nor"), ("cat", "cat: Is a directory")):
        (photos / "list.txt").write_text(f"{name} x\n")
        with pytest.raises(ImageError, match=message):
            pack(ImageListReader(), str(photos / "list.txt"), str(tmp_path / name), SMALL, 1)


def test_data_without_images(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(ConfigurationError, match="list.txt"):
        pack(ImageListReader(), str(tmp_path / "list.txt"), str(tmp_path / "shards"), SMALL, 1)


def test_a_shard_that_was_changed_meanwhile(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    (shards / "shard-000001.tar").write_bytes((shards / "shard-000003.tar").read_bytes())
    (shards / "allencv_index.json").unlink()
    with pytest.raises(InputError, match="shard-000001.tar' was changed; delete it"):
        pack(ImageFolderReader(), photos, str(shards), SMALL, 1)


# The index alone.


def test_an_index_for_existing_shards(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    packed = pack(ImageFolderReader(), photos, str(shards), SMALL, 1).index
    (shards / "allencv_index.json").unlink()
    assert index_shards(WebDatasetReader(), str(shards), 2).shards == packed.shards
    assert len(read(str(shards))) == 15


def test_the_shards_are_still_known_after_a_new_index(photos: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    before = contents(shards)
    index_shards(WebDatasetReader(), str(shards), 1)
    assert contents(shards) == before
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 1).kept == 4
    # Unless they were changed.
    path = shards / "shard-000001.tar"
    path.write_bytes(path.read_bytes().replace(b'{"label": "cat"}', b'{"label": "cow"}'))
    index_shards(WebDatasetReader(), str(shards), 1)
    with pytest.raises(InputError, match=f"'{path}' does not hold what was packed; expected a new"):
        pack(ImageFolderReader(), photos, str(shards), SMALL, 1)


def test_a_shard_that_was_lost_is_written_again(photos: Path, tmp_path: Path) -> None:
    """An index without it would lose its images."""
    shards = tmp_path / "shards"
    pack(ImageFolderReader(), photos, str(shards), SMALL, 1)
    before = contents(shards)
    (shards / "shard-000001.tar").unlink()
    assert pack(ImageFolderReader(), photos, str(shards), SMALL, 1).kept == 3
    assert contents(shards) == before


def test_shards_without_a_record_are_those_of_others(photos: Path, tmp_path: Path) -> None:
    pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 1)
    (tmp_path / "shards" / RECORD).unlink()
    with pytest.raises(InputError, match="holds other shards .see allencv_index.json.; expected"):
        pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 1)


def test_an_index_of_unfinished_shards_does_not_finish_them(photos: Path, tmp_path: Path) -> None:
    interrupt(photos, tmp_path / "shards", 2)
    index_shards(WebDatasetReader(), str(tmp_path / "shards"), 1)
    assert pack(ImageFolderReader(), photos, str(tmp_path / "shards"), SMALL, 1).kept == 2
    pack(ImageFolderReader(), photos, str(tmp_path / "whole"), SMALL, 1)
    assert contents(tmp_path / "shards") == contents(tmp_path / "whole")


def test_shards_in_several_folders(photos: Path, tmp_path: Path) -> None:
    for name in "ab":
        pack(ImageFolderReader(), photos, str(tmp_path / name), SMALL, 1)
    with pytest.raises(ConfigurationError, match="has shards in .*/a, .*/b; expected those of one"):
        index_shards(WebDatasetReader(), f"{tmp_path}/*/*.tar", 1)
