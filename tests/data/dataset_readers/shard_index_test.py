import builtins
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo
from PIL import Image

from allencv.data import ImageDataLoader
from allencv.data.class_weightings import Balanced
from allencv.data.dataset_readers import WebDatasetReader
from allencv.data.dataset_readers.shard_index import INDEX
from allencv.data.label_vocabulary import LabelVocabulary
from allencv.data.packing import index_shards
from allencv.runtime import ImageError

SHARDS = [7, 5, 1, 6, 4]
SIZE = sum(SHARDS)


def write_shard(path: Path, numbers: range, mode: str = "w", label: str = "cls") -> None:
    """The red of each image is its number, its label "odd" or "even"."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for number in numbers:
            image = io.BytesIO()
            Image.new("RGB", (4, 3), (number, 0, 0)).save(image, "PNG")
            content = b"odd" if number % 2 else b"even"
            files = {"png": image.getvalue(), label: content}
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    first = 0
    for number, size in enumerate(SHARDS):
        write_shard(folder / f"{number}.tar", range(first, first + size))
        first += size
    return folder


@pytest.fixture
def indexed(shards: Path) -> Path:
    index_shards(WebDatasetReader(), str(shards), 2)
    return shards


def make_loader(path: Any, streaming: Any = None, **arguments: Any) -> ImageDataLoader:
    reader = WebDatasetReader(streaming=streaming)
    loader = ImageDataLoader(reader, path, **{"batch_size": 4, "num_workers": 0, **arguments})
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def numbers(loader: ImageDataLoader) -> List[List[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in loader]


def flat(lists: List[List[int]]) -> List[int]:
    return [number for numbers in lists for number in numbers]


def samples(path: Any, **arguments: Any) -> List[Any]:
    found = WebDatasetReader(**arguments).read_samples(path)
    return [(str(image), image(), label, labels) for image, label, labels, _ in found]


def change(folder: Path, **values: Any) -> None:
    """Change the index of a folder."""
    content = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**content, **values}))


def test_an_index_says_what_the_shards_hold(shards: Path) -> None:
    expected = samples(f"{shards}/*.tar")
    index_shards(WebDatasetReader(), str(shards), 2)
    for path in (f"{shards}/*.tar", str(shards), [f"{shards}/{n}.tar" for n in range(5)]):
        assert samples(path) == expected
    assert samples(f"{shards}/{{3,1}}.tar") == [
        each for shard in "31" for each in expected if f"/{shard}.tar/" in each[0]
    ]
    content = json.loads((shards / INDEX).read_text())
    assert (content["images"], content["labels"]) == (SIZE, {"even": 12, "odd": 11})
    assert [shard["images"] for shard in content["shards"]] == SHARDS
    assert [shard["bytes"] for shard in content["shards"]] == [
        os.path.getsize(shards / f"{number}.tar") for number in range(5)
    ]


def test_nothing_is_read_but_the_index(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: List[str] = []
    read = builtins.open

    def noted(file: Any, *arguments: Any, **others: Any) -> Any:
        opened.append(str(file))
        return read(file, *arguments, **others)

    monkeypatch.setattr(builtins, "open", noted)
    for streaming in (None, True):
        loader = make_loader(str(indexed), streaming, shuffle=True, shuffle_buffer=5, seed=1)
        assert len(loader) == 6
        assert loader.labels() == {"even": 12, "odd": 11}
        LabelVocabulary.from_instances(loader.iter_instances())
        assert not [file for file in opened if file.endswith(".tar")]
        # Resuming does not read the images before.
        loader.seek(0, 5)
        (last,) = numbers(loader)
        assert len([file for file in opened if file.endswith(".tar")]) == len(last) == 3
        opened.clear()


@pytest.mark.parametrize("streaming", [None, True])
def test_the_loader_resumes(streaming: Any, indexed: Path) -> None:
    loader = make_loader(str(indexed), streaming, shuffle=True, seed=1)
    assert isinstance(len(loader), int)
    epochs = [numbers(loader) for _ in range(2)]
    assert all(sorted(flat(epoch)) == list(range(SIZE)) for epoch in epochs)
    assert all(len(epoch) == len(loader) for epoch in epochs)
    again = make_loader(str(indexed), streaming, shuffle=True, seed=1)
    again.seek(1, 3)
    assert numbers(again) == epochs[1][3:]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 11, 22, 23])
def test_the_length_of_a_stream(batch_size: int, drop_last: bool, indexed: Path) -> None:
    loader = make_loader(str(indexed), True, batch_size=batch_size, drop_last=drop_last)
    assert len(loader) == len(numbers(loader))


def test_a_stream_without_a_whole_batch(indexed: Path) -> None:
    assert len(make_loader(str(indexed), True, batch_size=100)) == 1
    with pytest.raises(ConfigurationError, match="has only 23 images; with drop_last no batch"):
        len(make_loader(str(indexed), True, batch_size=100, drop_last=True))


def test_a_stream_is_the_same_with_an_index(shards: Path) -> None:
    path = f"{shards}/*.tar"
    before = numbers(make_loader(path, True, shuffle=True, shuffle_buffer=5, seed=1))
    index_shards(WebDatasetReader(), str(shards), 1)
    assert numbers(make_loader(path, True, shuffle=True, shuffle_buffer=5, seed=1)) == before


def test_what_a_list_allows(indexed: Path) -> None:
    loader = make_loader(str(indexed), shuffle=True, class_weighting=Balanced())
    assert len(loader) == 6
    assert make_loader(str(indexed), shuffle=True, repeats=2).repeats == 2


@pytest.mark.parametrize("world_size", [2, 3, 7])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_use_each_image_once(
    world_size: int, workers: int, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated ranks, with an image loader each: each image once, in as many steps."""
    from allennlp.common import util
    from torch import distributed as dist

    monkeypatch.setattr(util, "is_distributed", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda *_: world_size)
    for shuffle in (False, True):
        ranks, loaders = [], []
        for rank in range(world_size):
            monkeypatch.setattr(dist, "get_rank", lambda *_, rank=rank: rank)
            loader = make_loader(str(indexed), shuffle=shuffle, seed=3, num_workers=workers)
            ranks.append(flat(numbers(loader)))
            loaders.append(loader)
        used = flat(ranks)
        assert sorted(used) == list(range(SIZE))
        assert len({len(loader) for loader in loaders}) == 1


@pytest.mark.parametrize("world_size", [2, 7])
def test_allennlps_ranks(world_size: int, indexed: Path) -> None:
    found = []
    for rank in range(world_size):
        reader = WebDatasetReader()
        reader._set_distributed_info(DistributedInfo(world_size, rank))
        found += [int(each["image"].as_tensor({})[0, 0, 0]) for each in reader.read(str(indexed))]
    assert sorted(found) == list(range(SIZE))


# Which readers an index is for.


def two_labels(folder: Path) -> None:
    """A shard with a label in .cls and another one in .json, under two names."""
    folder.mkdir()
    image = io.BytesIO()
    Image.new("RGB", (4, 3)).save(image, "PNG")
    content = {"png": image.getvalue(), "jpg": image.getvalue(), "cls": b"1"}
    content["json"] = b'{"label": ["a", "b"], "other": 7}'
    with tarfile.open(folder / "0.tar", "w") as tar:
        for suffix, data in content.items():
            member = tarfile.TarInfo(f"0.{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


READERS: List[Dict[str, Any]] = [
    {},
    {"label_key": "cls"},
    {"label_key": "json"},
    {"label_key": "json;cls"},
    {"label_key": "json", "label_field": "other"},
    {"label_key": None},
    {"image_keys": ["jpg"]},
    {"classes": ["x", "y"]},
]


@pytest.mark.parametrize("made_for", READERS)
def test_a_reader_finds_the_same_with_any_index(made_for: Dict[str, Any], tmp_path: Path) -> None:
    two_labels(tmp_path / "shards")
    path = f"{tmp_path}/shards/*.tar"
    expected = [samples(path, **reader) for reader in READERS]
    assert len({str(each) for each in expected}) == 6  # an index for `cls` is one for no other
    index_shards(WebDatasetReader(**made_for), path, 1)
    assert [samples(path, **reader) for reader in READERS] == expected
    known = [WebDatasetReader(**reader).num_images(path) for reader in READERS]
    assert known[READERS.index(made_for)] == 1


def test_names_of_classes_come_from_the_reader(indexed: Path) -> None:
    reader = WebDatasetReader(classes={"odd": "1, 3, 5", "even": "even"})
    assert reader.label_counts(str(indexed)) == {"1, 3, 5": 11, "even": 12}
    assert {sample.label for sample in reader.read_samples(str(indexed))} == {"1, 3, 5", "even"}
    with pytest.raises(ConfigurationError, match="has the label 'even', which is not in"):
        list(WebDatasetReader(classes={"odd": "x"}).read_samples(str(indexed)))


def test_incomplete_samples(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shard(shards / "5.tar", range(23, 26), label="txt")
    with pytest.raises(ConfigurationError, match="sample '023' of .* has no label"):
        index_shards(WebDatasetReader(), str(shards), 1)
    assert not (shards / INDEX).exists()
    index_shards(WebDatasetReader(on_incomplete="skip"), str(shards), 1)
    reader = WebDatasetReader(on_incomplete="skip")
    assert len(list(reader.read_samples(str(shards)))) == reader.num_images(str(shards)) == SIZE
    assert reader.samples_skipped == 3
    assert "Left out: 3 incomplete samples of" in caplog.text
    with pytest.raises(ConfigurationError, match="sample '023' of .* has no label"):
        list(WebDatasetReader().read_samples(str(shards)))


def test_max_instances(indexed: Path) -> None:
    reader = WebDatasetReader(max_instances=9)
    assert reader.num_images(str(indexed)) == 9
    assert len(list(reader.read_samples(str(indexed)))) == 9
    assert len(ImageDataLoader(reader, str(indexed), batch_size=2)) == 4


# An index that does not fit, or none.


def test_without_an_index(shards: Path) -> None:
    loader = ImageDataLoader(WebDatasetReader(), f"{shards}/*.tar")
    with pytest.raises(TypeError, match="unknown when streaming"):
        len(loader)
    with pytest.raises(ConfigurationError) as caught:
        ImageDataLoader(WebDatasetReader(), str(shards))
    assert str(caught.value).endswith(
        f"is a folder without an index; expected '{shards}/*.tar', or an index: "
        f"allencv pack --index-only {shards}"
    )


ADVICE = "expected an index made anew: allencv pack --index-only ROOT"


def renamed(folder: Path) -> None:
    (folder / "3.tar").rename(folder / "9.tar")


def added(folder: Path) -> None:
    shutil.copy(folder / "3.tar", folder / "9.tar")


def longer(folder: Path) -> None:
    with (folder / "3.tar").open("ab") as file:
        file.write(bytes(512))


@pytest.mark.parametrize(
    ("action", "path", "reason"),
    [
        (renamed, "ROOT", "'3.tar' does not exist"),
        (renamed, "ROOT/*.tar", "it does not list '9.tar'"),
        (added, "ROOT", "it does not list '9.tar'"),
        (added, "ROOT/*.tar", "it does not list '9.tar'"),
        (longer, "ROOT", "'3.tar' has 10752 bytes, and 10240 in the index"),
        (longer, "ROOT/*.tar", "'3.tar' has 10752 bytes, and 10240 in the index"),
    ],
)
def test_an_index_that_does_not_fit(action: Any, path: str, reason: str, indexed: Path) -> None:
    path = path.replace("ROOT", str(indexed))
    action(indexed)
    size = os.path.getsize(indexed / "3.tar") if action is longer else 0
    expected = f"'{indexed}/{INDEX}' does not fit its shards: {reason}; {ADVICE}"
    expected = expected.replace("10752", str(size)).replace("10240", str(size - 512))
    for call in (
        lambda: ImageDataLoader(WebDatasetReader(), path),
        lambda: list(WebDatasetReader().read(path)),
        lambda: WebDatasetReader().num_images(path),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert str(caught.value) == expected.replace("ROOT", str(indexed))
    index_shards(WebDatasetReader(), str(indexed), 1)
    assert WebDatasetReader().num_images(path) == SIZE + (6 if action is added else 0)


def test_shards_that_the_path_does_not_name_do_not_matter(indexed: Path) -> None:
    longer(indexed)
    assert WebDatasetReader().num_images(f"{indexed}/{{0..2}}.tar") == 13


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged .Expecting value"),
        (b'{"version": 1, "images"', "is damaged .Expecting"),
        (b"[]", "is damaged .list indices"),
        (b"{}", "is damaged .no 'version'"),
        (b'{"version": 1}', "is damaged .no 'made_with'|is damaged .no 'shards'"),
        (b'{"version": 2}', "has version 2; expected 1: use a newer AllenCV, or delete it"),
    ],
)
def test_a_damaged_index(content: bytes, reason: str, indexed: Path) -> None:
    (indexed / INDEX).write_bytes(content)
    for path in (str(indexed), f"{indexed}/*.tar"):
        with pytest.raises(ConfigurationError, match=f"'{indexed}/{INDEX}' {reason}"):
            ImageDataLoader(WebDatasetReader(), path)


def test_an_index_whose_numbers_do_not_agree(indexed: Path) -> None:
    shards = json.loads((indexed / INDEX).read_text())["shards"]
    for values, reason in (
        ({"images": 24}, "its sums are wrong"),
        ({"labels": {"even": 23}}, "its sums are wrong"),
        ({"shards": shards[:4]}, "its sums are wrong"),
        ({"shards": [{**shards[0], "starts": []}]}, "lists of different lengths"),
        ({"shards": [{**shards[0], "codes": [9] * 7}]}, "lists of different lengths"),
        ({"shards": [{**shards[0], "starts": [-1] * 7}]}, "can't convert negative"),
    ):
        index_shards(WebDatasetReader(), str(indexed), 1)
        change(indexed, **values)
        with pytest.raises(ConfigurationError, match=f"is damaged .*{reason}"):
            WebDatasetReader().num_images(str(indexed))


def test_shards_that_cannot_be_indexed(shards: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar.gz", range(3), "w:gz")
    with pytest.raises(ConfigurationError, match=r"a.tar.gz' is compressed; expected uncompressed"):
        index_shards(WebDatasetReader(), f"{tmp_path}/a.tar.gz", 1)
    with pytest.raises(ConfigurationError, match="'memory://a/b.tar' is remote; expected"):
        index_shards(WebDatasetReader(), "memory://a/b.tar", 1)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ConfigurationError, match="empty.tar has no samples"):
        index_shards(WebDatasetReader(), f"{tmp_path}/empty.tar", 1)


def test_shards_of_equal_size_that_changed_places(tmp_path: Path) -> None:
    """Tar files are padded, so that many have the same size."""
    names = [tmp_path / "0.tar", tmp_path / "1.tar"]
    for number, name in enumerate(names):
        write_shard(name, range(3 * number, 3 * number + 3))
    index_shards(WebDatasetReader(), str(tmp_path), 1)
    assert names[0].stat().st_size == names[1].stat().st_size
    names[0].rename(tmp_path / "other")
    names[1].rename(names[0])
    (tmp_path / "other").rename(names[1])
    with pytest.raises(ImageError, match="the shard has changed since it was listed"):
        numbers(make_loader(str(tmp_path)))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a" * 99, "b" * 150, "c/" * 80 + "d", "\N{SNOWMAN}"])
def test_the_names_of_every_format(name: str, format: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w", format=format) as tar:
        for suffix, data in (("png", b"pixels"), ("cls", b"cat")):
            member = tarfile.TarInfo(f"{name}.{suffix}")
            member.size = len(data)
            try:
                tar.addfile(member, io.BytesIO(data))
            except ValueError:
                pytest.skip("this format has no such names")
    index_shards(WebDatasetReader(), str(tmp_path), 1)
    (sample,) = WebDatasetReader().read_samples(str(tmp_path))
    assert sample.image() == b"pixels"


@pytest.mark.parametrize("other", [{"label_key": "json;cls"}, {"label_key": None}])
def test_an_index_of_samples_with_different_labels(other: Dict[str, Any], tmp_path: Path) -> None:
    """The first sample has .cls and .json, the second only .json, the third none."""
    contents = {"0": {"cls": b"a", "json": b'{"label": "b"}'}, "1": {"json": b'{"label": "b"}'}}
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for key in ("0", "1", "2"):
            for suffix, data in {"png": b"pixels", **contents.get(key, {})}.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    path = f"{tmp_path}/*.tar"
    reader = {"on_incomplete": "skip", **other}
    expected = samples(path, **reader)
    index_shards(WebDatasetReader(on_incomplete="skip"), path, 1)
    assert samples(path, **reader) == expected
