import http.server
import io
import json
import logging
import os
import pickle
import re
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

import fsspec
import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader
from allennlp.data.dataset_readers.dataset_reader import DistributedInfo, WorkerInfo
from PIL import Image

from allencv.data import ImageDataLoader
from allencv.data.dataset_readers import WebDatasetReader
from allencv.runtime import ImageError
from tests.conftest import ROOT, run_in_process, write_images


def pixels(number: int) -> np.ndarray:
    array = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    array[:, :, 0] = number
    return array


def encoded(number: int, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, format)
    return file.getvalue()


Files = Iterable[Tuple[str, bytes]]


def tar(files: Files, mode: str = "w", **arguments: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **arguments) as archive:  # type: ignore[call-overload]
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def samples(numbers: Iterable[int]) -> Iterator[Tuple[str, bytes]]:
    for number in numbers:
        yield f"{number:04d}.png", encoded(number)
        yield f"{number:04d}.cls", str(number % 3).encode()


def write(path: Path, files: Files, **arguments: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar(files, **arguments))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Five shards of 5, 4, 3, 2 and 1 samples, which are numbered from 0 to 14."""
    first = 0
    for shard in range(5):
        write(tmp_path / f"train-{shard:03d}.tar", samples(range(first, first + 5 - shard)))
        first += 5 - shard
    return tmp_path


def number(instance: Instance) -> int:
    return int(instance["image"].as_tensor({})[0, 0, 0])


def numbers(instances: Iterable[Instance]) -> List[int]:
    return [number(instance) for instance in instances]


def read(path: Any, **arguments: Any) -> List[Instance]:
    return list(WebDatasetReader(**arguments).read(path))


def labels(path: Any, **arguments: Any) -> List[str]:
    return [instance["label"].label for instance in read(path, **arguments)]


# What a shard holds.


def test_an_image_and_its_label(shards: Path) -> None:
    reader = DatasetReader.from_params(Params({"type": "webdataset"}))
    instances = list(reader.read(str(shards / "train-{000..004}.tar")))
    assert numbers(instances) == list(range(15))
    for place, instance in enumerate(instances):
        assert instance["label"].label == str(place % 3)
        assert (
            instance["image"].as_tensor({}).equal(torch.from_numpy(pixels(place)).permute(2, 0, 1))
        )
    shard = shards / "train-000.tar"
    assert instances[0]["metadata"].metadata == {"image": f"{shard}/0000.png"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar_file(mode: str, format: int, tmp_path: Path) -> None:
    folder = f"{'deep/' * 30}n" if format != tarfile.USTAR_FORMAT else "n"
    files = [(f"{folder}/größe.{each}", content) for each, content in
             (("jpg", encoded(7, "JPEG")), ("cls", b"3\n"))]  # fmt: skip
    shard = write(tmp_path / "a.tar", files, mode=mode, format=format)
    (instance,) = read(shard)
    assert instance["label"].label == "3"
    assert instance["metadata"].metadata == {"image": f"{shard}/{folder}/größe.jpg"}
    expected = np.asarray(Image.open(io.BytesIO(encoded(7, "JPEG"))))
    assert instance["image"].as_tensor({}).permute(1, 2, 0).numpy().tolist() == expected.tolist()


def test_the_name_up_to_the_first_dot_makes_a_sample(tmp_path: Path) -> None:
    shard = write(
        tmp_path / "a.tar",
        [
            ("./v1.0/a.PNG", encoded(1)),
            ("./v1.0/a.cls", b"cat"),
            ("./v1.0/a.mask.png", encoded(100)),
            ("./v1.0/._a.png", b"what a Mac leaves"),
            ("./v1.0/README", b"no extension"),
            ("./v2/a.cls", b"dog"),
            ("./v2/a.png", encoded(2)),
        ],
    )
    assert labels(shard) == ["cat", "dog"]
    assert numbers(read(shard)) == [1, 2]


def test_folders_and_links_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "d.x").mkdir()
    (tmp_path / "l.png").symlink_to("0000.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "d.x", "d.x")
        archive.add(tmp_path / "l.png", "l.png")
        for name, content in samples([4]):
            (tmp_path / name).write_bytes(content)
            archive.add(tmp_path / name, name)
    assert numbers(read(tmp_path / "a.tar")) == [4]


def test_what_macos_puts_into_a_shard(tmp_path: Path) -> None:
    files = [("._a.png", b"x"), ("a.png", encoded(1)), ("._a.cls", b"x"), ("a.cls", b"1")]
    shard = write(tmp_path / "a.tar", [("x/.DS_Store", b""), *files])
    assert labels(shard) == ["1"]


def test_upper_case_marks_and_line_ends(tmp_path: Path) -> None:
    shard = write(
        tmp_path / "a.tar", [("a.PNG", encoded(1)), ("a.CLS", b"\xef\xbb\xbfbig cat \r\n")]
    )
    assert labels(shard) == ["big cat"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_files_that_are_not_used_are_named(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = write(tmp_path / "a.tar", [("cat/1", encoded(1)), ("cat/2", encoded(2))], mode=mode)
    assert read(shard) == []
    assert caplog.messages == [
        f"{shard}: files without an extension are not used (2): cat/1, cat/2",
        f"{shard}: no samples",
    ]
    caplog.clear()
    assert read(write(tmp_path / "a.tar", [], mode=mode)) == []
    assert caplog.messages == [f"{shard}: no samples"]


@pytest.mark.parametrize("on_incomplete", ["raise", "skip"])
def test_a_sample_that_stands_there_twice(on_incomplete: str, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", samples([1, 2, 1]))
    with pytest.raises(ConfigurationError, match=f"sample '0001' of '{shard}' .* or are repeat"):
        read(shard, on_incomplete=on_incomplete)
    # In different shards, samples may have the same key.
    shards = [write(tmp_path / f"{name}.tar", samples([1, 2])) for name in "ab"]
    assert numbers(read(shards)) == [1, 2, 1, 2]


def test_image_keys_say_which_of_several_images(tmp_path: Path) -> None:
    files = [("a.left.png", encoded(1)), ("a.png", encoded(2)), ("a.dat", encoded(3))]
    shard = write(tmp_path / "a.tar", files)
    for keys, found in ((None, 2), (["left.png", "png"], 1), (["bin", ".DAT", "png"], 3)):
        assert numbers(read(shard, image_keys=keys, label_key=None)) == [found]


@pytest.mark.parametrize(
    ("content", "arguments", "expected"),
    [
        ({"cls": b"7\n"}, {}, "7"),
        ({"cls": b"tabby cat"}, {}, "tabby cat"),
        ({"txt": "Größe".encode()}, {"label_key": "txt"}, "Größe"),
        ({"json": b'{"label": "cat"}'}, {"label_key": "json"}, "cat"),
        ({"json": b'{"y": 3}'}, {"label_key": ".json", "label_field": "y"}, "3"),
        ({"meta.json": b'{"label": 1}'}, {"label_key": "meta.json"}, "1"),
        ({"json": b'"cat"'}, {"label_key": "json"}, "cat"),
        ({"cls": b"1"}, {"classes": ["cat", "dog"]}, "dog"),
        ({"cls": b"n02"}, {"classes": {"n01": "cat", "n02": "dog"}}, "dog"),
        ({"json": b'{"label": 0}'}, {"label_key": "json", "classes": ["cat"]}, "cat"),
    ],
)
def test_labels(content: Dict[str, bytes], arguments: Any, expected: str, tmp_path: Path) -> None:
    files = [("a.png", encoded(1)), *((f"a.{key}", text) for key, text in content.items())]
    shard = write(tmp_path / "a.tar", files)
    reader = DatasetReader.from_params(Params({"type": "webdataset", **arguments}))
    (instance,) = reader.read(shard)
    assert instance["label"].label == expected


def test_a_list_in_a_json_file_makes_several_labels(tmp_path: Path) -> None:
    files = [("a.png", encoded(1)), ("a.json", b'{"label": [2, 0]}')]
    files += [("b.png", encoded(1)), ("b.json", b'{"label": []}')]
    shard = write(tmp_path / "a.tar", files)
    first, second = read(shard, label_key="json", classes=["red", "green", "blue"])
    assert first["labels"].labels == ["blue", "red"]
    assert second["labels"].labels == []
    assert "label" not in first


def test_without_labels(shards: Path) -> None:
    instance = read(shards / "train-004.tar", label_key=None)[0]
    assert list(instance) == ["image", "metadata"]


# Where the shards are.


def test_braces_globs_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a-08", "a-09", "a-10", "b-08", "b-09", "b-10", "c", "x{1,2}"):
        write(tmp_path / f"{name}.tar", samples([0]))
    monkeypatch.setenv("HOME", str(tmp_path))

    def shards(path: Any) -> List[str]:
        found = WebDatasetReader().shards(path)
        assert WebDatasetReader().shards(found) == found
        return [Path(shard).relative_to(tmp_path).stem for shard in found]

    assert shards(f"{tmp_path}/a-{{08..10}}.tar") == ["a-08", "a-09", "a-10"]
    assert shards(f"{tmp_path}/{{b,a}}-{{09..10}}.tar") == ["b-09", "b-10", "a-09", "a-10"]
    assert shards(f"{tmp_path}/?-0*.tar") == ["a-08", "a-09", "b-08", "b-09"]
    assert shards([f"{tmp_path}/c.tar", tmp_path / "a-0*.tar"]) == ["c", "a-08", "a-09"]
    assert shards("~/{c,a-08}.tar") == ["c", "a-08"]
    assert shards(tmp_path / "x{1,2}.tar") == ["x{1,2}"]


@pytest.mark.parametrize(
    ("path", "messages"),
    [
        (
            "ROOT/b-{0..2}.tar",
            ["'ROOT/b-0.tar' of 'ROOT/b-{0..2}.tar' (train_data_path", "not exist"],
        ),
        ("ROOT/*.tgz", ["a shard of 'ROOT/*.tgz'", "does not exist; 'ROOT' holds a.tar"]),
        ("ROOT", ["'ROOT' (train_data_path", "without an index; expected 'ROOT/*.tar', or"]),
        (["ROOT/a.tar", "ROOT/{a,b}.tar"], ["'ROOT/b.tar' of"]),
        (["ROOT/a.tar", "ROOT/*.tar"], ["'ROOT/a.tar'", "named 2 times; expected each shard once"]),
        ("ROOT/a-{2..1}.tar", ["a shard of 'ROOT/a-{2..1}.tar'", "does not exist"]),
        ([], ["expected a path of shards, such as"]),
        ({"root": "ROOT"}, ["expected a path of shards, such as"]),
        ("nowhere://a.tar", ["nowhere://a.tar", "train_data_path", "rotocol not known"]),
        ("nowhere://*.tar", ["nowhere://*.tar", "train_data_path", "rotocol not known"]),
        ("memory://none/a.tar", ["memory://none/a.tar", "train_data_path"]),
        ("memory://none/*.tar", ["a shard of 'memory://none/*.tar'", "does not exist"]),
    ],
)
def test_shards_that_are_not_there(path: Any, messages: List[str], tmp_path: Path) -> None:
    write(tmp_path / "a.tar", samples([0]))
    path = json.loads(json.dumps(path).replace("ROOT", str(tmp_path)))
    with pytest.raises(ConfigurationError) as caught:
        read(path)
    for message in messages:
        assert message.replace("ROOT", str(tmp_path)) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.mkdirs("/shards", exist_ok=True)
    yield files
    files.rm("/shards", recursive=True)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_remote_shards(mode: str, memory: Any) -> None:
    for shard in range(3):
        memory.pipe(f"/shards/{shard}.tar", tar(samples([2 * shard, 2 * shard + 1]), mode))
    for path in ("memory://shards/{0..2}.tar", "memory://shards/*.tar"):
        instances = read(path)
        assert numbers(instances) == list(range(6))
        assert instances[3]["metadata"].metadata["image"].endswith("/shards/1.tar/0003.png")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a plain web server of the folder `tmp_path`."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        threading.Thread(target=site.serve_forever, args=[0.01]).start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_web_server(mode: str, server: str, tmp_path: Path) -> None:
    for shard in range(2):
        write(tmp_path / f"{shard}.tar", samples([2 * shard, 2 * shard + 1]), mode=mode)
    instances = read(f"{server}/{{0..1}}.tar")
    assert numbers(instances) == [0, 1, 2, 3]
    assert instances[3]["metadata"].metadata == {"image": f"{server}/1.tar/0003.png"}
    with pytest.raises(ConfigurationError, match=f"'{server}/9.tar' .train_data_path.*404"):
        read(f"{server}/9.tar")


def test_a_web_server_that_cannot_be_reached() -> None:
    with pytest.raises(ImageError, match="http://127.0.0.1:1/a.tar.*refused"):
        read("http://127.0.0.1:1/a.tar")


def test_a_protocol_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigurationError, match="'s3://a/b.tar' .*needs another package: .*s3fs"):
        read("s3://a/b.tar")


# Shares of the data.


def shares(count: int, path: Any, **arguments: Any) -> List[List[int]]:
    reader = WebDatasetReader(**arguments)
    return [
        [int(Path(sample.image.name).stem) for sample in reader.read_shard(path, index, count)]
        for index in range(count)
    ]


@pytest.mark.parametrize("count", range(1, 20))
def test_nothing_is_read_twice_and_nothing_is_lost(count: int, shards: Path) -> None:
    found = shares(count, shards / "*.tar")
    assert sorted(chain.from_iterable(found)) == list(range(15))
    assert all(share == sorted(share) for share in found)
    assert found == shares(count, shards / "*.tar")


def test_whole_shards_are_divided_if_there_are_enough(shards: Path) -> None:
    assert shares(2, shards / "*.tar") == [
        [0, 1, 2, 3, 4, 9, 10, 11, 14],
        [5, 6, 7, 8, 12, 13],
    ]
    assert shares(6, shards / "*.tar")[1] == [1, 7, 13]


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_max_instances_are_the_first_whoever_reads(count: int, shards: Path) -> None:
    found = shares(count, shards / "*.tar", max_instances=7)
    assert sorted(chain.from_iterable(found)) == list(range(7))


def test_the_order_of_a_list_is_kept(shards: Path) -> None:
    shuffled = [str(shards / f"train-{shard:03d}.tar") for shard in (3, 0, 4)]
    assert shares(1, shuffled) == [[12, 13, 0, 1, 2, 3, 4, 14]]
    assert shares(3, shuffled) == [[12, 13], [0, 1, 2, 3, 4], [14]]


@pytest.mark.parametrize("max_instances", [None, 7, 2])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (2, 0), (2, 2), (3, 2)])
def test_allennlps_ranks_and_workers(
    ranks: int, workers: int, max_instances: int, shards: Path
) -> None:
    found = []
    for rank in range(ranks):
        for worker in range(max(1, workers)):
            reader = WebDatasetReader(max_instances=max_instances)
            reader._set_distributed_info(DistributedInfo(ranks, rank) if ranks > 1 else None)
            reader._set_worker_info(WorkerInfo(workers, worker) if workers else None)
            found += numbers(reader.read(shards / "*.tar"))
    assert sorted(found) == list(range(max_instances or 15))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_allennlps_loader(num_workers: int, lazy: bool, mode: str, tmp_path: Path) -> None:
    for shard in range(3):
        write(tmp_path / f"{shard}.tar", samples(range(shard * 4, shard * 4 + 4)), mode=mode)
    loader = MultiProcessDataLoader(
        WebDatasetReader(),
        tmp_path / "*.tar",
        batch_size=2,
        num_workers=num_workers,
        max_instances_in_memory=4 if lazy else None,
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    for _ in range(2):
        found = [number for batch in loader for number in batch["image"][:, 0, 0, 0].tolist()]
        assert sorted(found) == list(range(12))


def test_the_image_loader(shards: Path) -> None:
    reader = WebDatasetReader(streaming=False)
    loader = ImageDataLoader(reader, shards / "*.tar", batch_size=15, num_workers=2)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    (batch,) = loader
    assert batch["image"][:, 0, 0, 0].tolist() == list(range(15))


# Memory.


def noise(numbers: Iterable[int], size: int) -> Iterator[Tuple[str, bytes]]:
    for number in numbers:
        yield f"{number:04d}.jpg", np.random.default_rng(number).bytes(size)
        yield f"{number:04d}.cls", b"1"
        yield f"{number:04d}.npy", bytes(size)


def peak(action: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        kept = action()
        del kept
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_one_image_at_a_time_is_held(mode: str, tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", noise(range(40), 200_000), mode=mode)
    reader = WebDatasetReader()

    def stream() -> None:
        for sample in reader.read_samples(shard):
            assert len(sample.image()) == 200_000

    assert peak(stream) < 2_000_000


def test_a_list_of_a_plain_tar_file_holds_no_images(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", noise(range(40), 200_000))
    assert peak(lambda: read(shard)) < 1_000_000
    assert len(pickle.dumps(read(shard)[0])) < 2_000


# What is wrong with a shard.


@pytest.mark.parametrize("cut", [1, 300, 512, 600, 1024, 2048, 2560, 3072, 3300, 4096])
def test_a_shard_cut_short_is_named(cut: int, tmp_path: Path) -> None:
    """A sample of these takes 512 bytes and 512 for the image, and the same for the label."""
    content = tar([each for n in range(5) for each in ((f"{n}.png", b"x"), (f"{n}.cls", b"1"))])
    (tmp_path / "a.tar").write_bytes(content[:cut])
    found: List[Any] = []
    last = (cut - 1) // 2048 - 1  # of the next the header, at least, must have been seen
    expected = f"the last complete sample is '{last}'" if last >= 0 else "no sample is complete"
    with pytest.raises(ImageError, match=f"'{tmp_path}/a.tar' .*cut short.*; {expected}"):
        found.extend(WebDatasetReader().read_samples(tmp_path / "a.tar"))
    assert len(found) == last + 1


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_compressed_shard_cut_short_is_named(mode: str, tmp_path: Path) -> None:
    content = tar(noise(range(6), 30_000), mode)
    (tmp_path / "a.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match=f"'{tmp_path}/a.tar' .*cut short"):
        read(tmp_path / "a.tar")


def test_a_remote_shard_cut_short_is_named(memory: Any) -> None:
    memory.pipe("/shards/a.tar", tar(noise(range(6), 30_000))[:200_000])
    with pytest.raises(
        ImageError, match="'memory://shards/a.tar' .*last complete sample is '0001'"
    ):
        read("memory://shards/a.tar")


def test_damage_between_two_samples_is_no_end(tmp_path: Path) -> None:
    content = bytearray(tar([(f"{n}.{key}", b"x") for n in range(5) for key in ("png", "cls")]))
    content[4096:4196] = b"?" * 100
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ImageError, match="bad checksum.*; the last complete sample is '0'"):
        read(tmp_path / "a.tar")


@pytest.mark.parametrize("content", [b"", b"text", b"\x1f\x8b", b"<html>404</html>" * 100])
def test_a_file_that_is_no_tar_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(
        ImageError, match=f"'{tmp_path}/a.tar' is damaged, cut short or not a tar file"
    ):
        read(tmp_path / "a.tar")


def test_a_shard_that_changes_while_it_is_used(tmp_path: Path) -> None:
    shard = write(tmp_path / "a.tar", samples([1]))
    (instance,) = read(shard)
    shard.write_bytes(shard.read_bytes()[:520])
    with pytest.raises(ImageError, match=f"{shard}/0001.png: the shard has become shorter"):
        instance["image"].as_tensor({})
    shard.unlink()
    with pytest.raises(ImageError, match=f"{shard}/0001.png: No such file"):
        instance["image"].as_tensor({})


# What is wrong with a sample.

INCOMPLETE = {
    "no image": ([("b.cls", b"1"), ("b.npy", b"")], {}, "no image: .*has .cls, .npy"),
    "no label": (
        [("b.png", encoded(1))],
        {},
        "no label: expected .cls or .json, but .*adjacent",
    ),
    "neither": ([("b.npy", b"")], {}, "no image: expected one of jpg, png, ..., but it has .npy"),
    "other image": ([("b.png", encoded(1))], {"image_keys": ["jpg"]}, "expected one of jpg, but"),
    "no field": (
        [("b.png", encoded(1)), ("b.json", b'{"labl": 1}')],
        {"label_key": "json"},
        r"expected 'label' \(dataset_reader.label_field\) in .json, which has labl",
    ),
    "no dict": (
        [("b.png", encoded(1)), ("b.json", b"[1]")],
        {"label_key": "json"},
        "expected 'label' .* in .json, which has list",
    ),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_incomplete_sample_is_named_or_skipped(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, arguments, message = INCOMPLETE[name]
    label = json.dumps({"label": 1}).encode()
    others = {"png": encoded(1), "jpg": encoded(1), "cls": b"1", "json": label}
    first, last = ([(f"{key}.{each}", others[each]) for each in others] for key in "ac")
    shard = write(tmp_path / "a.tar", [*first, *files, *last])
    with pytest.raises(ConfigurationError, match=f"sample 'b' of '{shard}' has .*{message}"):
        read(shard, **arguments)
    reader = WebDatasetReader(on_incomplete="skip", **arguments)
    with caplog.at_level(logging.WARNING):
        assert len(list(reader.read(shard))) == 2
    assert reader.samples_skipped == 1
    assert f"Left out: sample 'b' of '{shard}'" in caplog.text


@pytest.mark.parametrize(
    ("files", "arguments", "message"),
    [
        ({"cls": b"\xff\xfe"}, {}, ".cls is damaged: .*decode"),
        ({"json": b"{"}, {"label_key": "json"}, ".json is damaged: Expecting"),
        ({"cls": b" "}, {}, "has the label '' in .cls; expected a text or a number"),
        ({"json": b'{"label": {}}'}, {"label_key": "json"}, r"has the label \{\} in .json"),
        ({"json": b'{"label": true}'}, {"label_key": "json"}, "has the label True in .json"),
        ({"json": b'{"label": [1, null]}'}, {"label_key": "json"}, "has the label None in .json"),
        ({"cls": b"2"}, {"classes": ["x", "y"]}, "'2', which is not in .*classes: 0, 1"),
        ({"cls": b"c"}, {"classes": {"d": "dog"}}, "'c', which is not in .*classes: d"),
        ({"cls": b"1", "CLS": b"2"}, {}, "has two files .cls; expected one"),
    ],
)
def test_a_wrong_label(
    files: Dict[str, bytes], arguments: Any, message: str, tmp_path: Path
) -> None:
    named = [(f"a.{key}", content) for key, content in files.items()]
    shard = write(tmp_path / "a.tar", [("a.png", encoded(1)), *named])
    for on_incomplete in ("raise", "skip"):
        with pytest.raises(ConfigurationError, match=f"sample 'a' of '{shard}'.*{message}"):
            read(shard, on_incomplete=on_incomplete, **arguments)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"on_incomplete": "ignore"}, "on_incomplete is 'ignore'; expected one of raise, skip"),
        ({"label_kay": "cls"}, "'label_kay'; expected one of label_key, "),
        ({"color_mode": "rgb"}, "dataset_reader.color_mode is 'rgb'"),
    ],
)
def test_a_wrong_configuration_is_refused(params: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DatasetReader.from_params(Params({"type": "webdataset", **params}))


# The page of the documentation.


def test_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.split("\n## Tar shards (WebDataset)\n")[1].split("\n## ")[0]
    pack, index, tar = re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    packed, others = re.findall(r"^```jsonnet\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "shards/others"):
        (tmp_path / folder).mkdir(parents=True)
    for part, count in (("train", 3), ("val", 2)):
        write_images(tmp_path / "pets" / part, {"cat": count, "dog": count}, size=8)

    def config(text: str) -> Params:
        (tmp_path / "config.jsonnet").write_text(text)
        return Params.from_file(str(tmp_path / "config.jsonnet"))

    for command in pack.splitlines():
        run_in_process(*command.split()[1:])
    params = config(packed)
    reader = DatasetReader.from_params(params.pop("dataset_reader"))
    found = [sample.label for sample in reader.read_samples(params.pop("train_data_path"))]
    assert sorted(found) == ["cat"] * 3 + ["dog"] * 3
    found = [sample.label for sample in reader.read_samples(params.pop("validation_data_path"))]
    assert found == ["cat"] * 2 + ["dog"] * 2

    for name, content in samples([1, 3, 0, 4]):
        (tmp_path / "images" / name).write_bytes(content)
    subprocess.run(["bash", "-euc", tar], check=True)
    os.link("shards/train-000.tar", "shards/others/a.tar")
    run_in_process(*index.split()[1:])
    assert WebDatasetReader().num_images("shards/others") == 4
    for number in range(1, 147):
        os.link("shards/train-000.tar", f"shards/train-{number:03d}.tar")
    params = config(others)
    reader = DatasetReader.from_params(params.pop("dataset_reader"))
    instances = list(reader.read(params.pop("train_data_path")))
    assert len(instances) == 4 * 147
    assert numbers(instances[:4]) == [0, 1, 3, 4]
    assert [instance["label"].label for instance in instances[:4]] == ["cat", "dog", "cat", "dog"]
