import copy
import io
import random
import tarfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from allennlp.common import Params, util
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, Vocabulary
from PIL import Image

from allencv.data import ImageDataLoader
from allencv.data.data_loaders import image_data_loader
from allencv.data.data_loaders.process_workers import ProcessWorkers, processes_share_memory
from allencv.data.data_loaders.streamed_images import ReadAhead, shuffled
from allencv.data.dataset_readers import WebDatasetReader
from allencv.data.transforms import ImageTransform, RandomResizedCrop
from allencv.runtime import ImageError

SHARDS = [7, 5, 1, 6, 4]
SIZE = sum(SHARDS)
WORKERS: List[Dict[str, Any]] = [
    {"num_workers": 0},
    {"num_workers": 3, "worker": "thread"},
    {"num_workers": 2, "worker": "process"},
]
some_workers = pytest.mark.parametrize("workers", WORKERS)


def write_shard(path: Path, numbers: Iterator[int], compressed: bool = False) -> None:
    with tarfile.open(path, "w:gz" if compressed else "w") as tar:
        for number in numbers:
            pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), dtype=np.uint8)
            pixels[:, :, 0] = number
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            label = b"odd" if number % 2 else b"even"
            for suffix, content in (("png", image.getvalue()), ("cls", label)):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module", params=[".tar", ".tar.gz"])
def shards(request: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of unequal sizes. The red of each image is its number, its label odd or even."""
    root = tmp_path_factory.mktemp("shards")
    numbers = iter(range(SIZE))
    for index, size in enumerate(SHARDS):
        path = root / f"{index}{request.param}"
        write_shard(path, (next(numbers) for _ in range(size)), request.param == ".tar.gz")
    return f"{root}/*{request.param}"


def make_loader(path: str, transforms: Any = (), **arguments: Any) -> ImageDataLoader:
    reader = WebDatasetReader(transforms=list(transforms))
    loader = ImageDataLoader(reader, path, **{"batch_size": 4, "num_workers": 0, **arguments})
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def numbers(loader: ImageDataLoader) -> List[List[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in loader]


def flat(batches: List[List[int]]) -> List[int]:
    return [number for batch in batches for number in batch]


@some_workers
def test_in_order_as_in_the_files(shards: str, workers: Dict[str, Any]) -> None:
    loader = make_loader(shards, **workers)
    for _ in range(2):
        batches = numbers(loader)
        assert flat(batches) == list(range(SIZE))
        assert [len(batch) for batch in batches] == [4] * 5 + [3]


@some_workers
def test_labels_fit_their_images(shards: str, workers: Dict[str, Any]) -> None:
    loader = make_loader(shards, shuffle=True, **workers)
    vocab = Vocabulary.from_instances(loader.iter_instances())
    for batch in loader:
        names = [vocab.get_token_from_index(int(each), "labels") for each in batch["label"]]
        assert names == ["odd" if n % 2 else "even" for n in batch["image"][:, 0, 0, 0].tolist()]


def test_shuffled_epochs_hold_all_and_differ(shards: str) -> None:
    loader = make_loader(shards, shuffle=True, shuffle_buffer=5, seed=1)
    epochs = [flat(numbers(loader)) for _ in range(3)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = make_loader(shards, shuffle=True, shuffle_buffer=5, seed=1)
    assert [flat(numbers(again)) for _ in range(3)] == epochs
    other = make_loader(shards, shuffle=True, shuffle_buffer=5, seed=2)
    assert flat(numbers(other)) != epochs[0]


def test_a_large_buffer_mixes_all_shards(shards: str) -> None:
    loader = make_loader(shards, shuffle=True, shuffle_buffer=100)
    first = set(flat(numbers(loader)[:2]))
    starts = np.cumsum([0, *SHARDS])
    assert len({int(np.searchsorted(starts, number, "right")) for number in first}) > 2


def test_the_same_pixels_for_any_workers(shards: str) -> None:
    def two_epochs(workers: Dict[str, Any]) -> List[torch.Tensor]:
        crop: ImageTransform = RandomResizedCrop(8)
        loader = make_loader(shards, [crop], shuffle=True, seed=3, **workers)
        return [batch["image"] for _ in range(2) for batch in loader]

    first, *others = [two_epochs(workers) for workers in WORKERS]
    assert len(first) == 12
    for other in others:
        assert all(a.equal(b) for a, b in zip(first, other))


@pytest.mark.parametrize("workers", WORKERS[:2])
def test_seek(shards: str, workers: Dict[str, Any]) -> None:
    whole = make_loader(shards, shuffle=True, seed=5, **workers)
    epochs = [numbers(whole) for _ in range(2)]
    resumed = make_loader(shards, shuffle=True, seed=5, **workers)
    resumed.seek(1, 2)
    assert numbers(resumed) == epochs[1][2:]


def test_identity_has_the_names_and_sizes_of_the_shards(tmp_path: Path) -> None:
    for index, size in enumerate((2, 1)):
        write_shard(tmp_path / f"{index}.tar", iter(range(size)))
    loader = make_loader(f"{tmp_path}/*.tar")
    sizes = {str(path): path.stat().st_size for path in sorted(tmp_path.glob("*.tar"))}
    before = {"shards": 2, "bytes of the shards": sizes}
    assert loader.identity() == before
    assert len(set(sizes.values())) == 1  # tar files end in zeros: other contents may be as long
    write_shard(tmp_path / "1.tar", iter(range(9)))
    assert loader.identity() != before
    remote = ImageDataLoader(WebDatasetReader(streaming=True), "https://nowhere/{0..1}.tar")
    assert remote.identity()["bytes of the shards"] == {
        f"https://nowhere/{index}.tar": None for index in range(2)
    }


def test_drop_last(shards: str) -> None:
    assert [len(batch) for batch in numbers(make_loader(shards, drop_last=True))] == [4] * 5


def test_nobody_knows_the_length(shards: str) -> None:
    with pytest.raises(TypeError, match="unknown when streaming"):
        len(make_loader(shards))


def test_labels_are_counted_with_the_vocabulary(shards: str) -> None:
    loader = ImageDataLoader(WebDatasetReader(), shards)
    assert loader.labels() == {}
    assert len(list(loader.iter_instances())) == SIZE
    assert loader.labels() == {"even": 12, "odd": 11}


@some_workers
def test_an_unknown_label_is_named(shards: str, workers: Dict[str, Any]) -> None:
    loader = ImageDataLoader(WebDatasetReader(), shards, **workers)
    vocab = Vocabulary()
    vocab.add_token_to_namespace("even", "labels")
    loader.index_with(vocab)
    with pytest.raises(ConfigurationError, match="label 'odd' of .*holds even"):
        list(loader)


@some_workers
def test_a_shard_that_is_cut_short_is_an_error(tmp_path: Path, workers: Dict[str, Any]) -> None:
    for index in range(2):
        write_shard(tmp_path / f"{index}.tar", iter(range(3)))
    cut = tmp_path / "1.tar"
    loader = ImageDataLoader(WebDatasetReader(), f"{tmp_path}/*.tar", batch_size=2, **workers)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    cut.write_bytes(cut.read_bytes()[:2500])
    with pytest.raises(ImageError, match="1.tar.*cut short"):
        list(loader)


def test_a_stream_without_images(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", iter([]))
    loader = ImageDataLoader(WebDatasetReader(), f"{tmp_path}/0.tar")
    loader.index_with(Vocabulary())
    with pytest.raises(ConfigurationError, match="WebDatasetReader found no image in .*0.tar"):
        list(loader)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [({"repeats": 2}, "repeats"), ({"class_weighting": {"type": "balanced"}}, "class_weighting")],
)
def test_what_needs_a_list(shards: str, arguments: Dict[str, Any], key: str) -> None:
    params = Params({"type": "image", "shuffle": True, **copy.deepcopy(arguments)})
    with pytest.raises(ConfigurationError, match=f"data_loader.{key} is set.* are streamed"):
        DataLoader.from_params(params, reader=WebDatasetReader(), data_path=shards)


def test_breaking_off_ends_the_reading_thread(shards: str) -> None:
    loader = make_loader(shards, num_workers=2)
    before = threading.active_count()
    for _ in range(5):
        batches = iter(loader)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while threading.active_count() > before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Distributed training: real processes.


def as_rank(rank: int, world_size: int, shards: str, shuffle: bool, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world_size)
    util.is_distributed = lambda: True
    torch.manual_seed(0)
    loader = make_loader(shards, batch_size=3, shuffle=shuffle)
    epochs = [numbers(loader) for _ in range(2)]
    loader.for_evaluation = True
    epochs.append(numbers(loader))
    torch.save(epochs, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 7])  # fewer, and more, than shards
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks(shards: str, world_size: int, shuffle: bool, tmp_path: Path) -> None:
    if world_size == 7 and shards.endswith("gz"):
        pytest.skip("the same as for plain tar files")
    arguments = (world_size, shards, shuffle, str(tmp_path))
    mp.start_processes(as_rank, arguments, world_size, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(world_size)]
    for epoch in range(2):
        used = [number for rank in ranks for number in flat(rank[epoch])]
        assert sorted(used) == list(range(SIZE))
    # To evaluate, they take turns with the batches of one process.
    alone = numbers(make_loader(shards, batch_size=3))
    assert [rank[2] for rank in ranks] == [alone[rank::world_size] for rank in range(world_size)]


def test_a_rank_needs_images_in_its_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index, size in enumerate((3, 2, 0)):
        write_shard(tmp_path / f"{index}.tar", iter(range(size)))
    monkeypatch.setattr("allennlp.common.util.is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 2)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
    with pytest.raises(ConfigurationError, match="no image in .* for rank 2 of 3; expected an im"):
        list(make_loader(f"{tmp_path}/*.tar"))


def test_a_rank_whose_images_are_dropped_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for index, size in enumerate((5, 3)):
        write_shard(tmp_path / f"{index}.tar", iter(range(size)))
    monkeypatch.setattr("allennlp.common.util.is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank, batches in enumerate((1, 0)):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        caplog.clear()
        assert len(list(make_loader(f"{tmp_path}/*.tar", drop_last=True))) == batches
        assert ("Rank 1 has no batch in epoch 1" in caplog.text) == (batches == 0)
        assert ("set drop_last to false" in caplog.text) == (batches == 0)


# The pieces.


def test_shuffled_draws_from_the_buffer() -> None:
    items = list(shuffled(range(1000), 10, random.Random(0)))
    assert sorted(items) == list(range(1000))
    # An item cannot come before the buffer that it waits in is read.
    assert all(item < place + 10 for place, item in enumerate(items))
    assert items != list(range(1000))


def test_shuffled_with_a_buffer_of_one_changes_nothing() -> None:
    assert list(shuffled(range(20), 1, random.Random(0))) == list(range(20))


@pytest.mark.skipif(not processes_share_memory(), reason="needs forked processes")
def test_auto_takes_processes_for_shards(tmp_path: Path) -> None:
    def kind(reader: Any, **arguments: Any) -> str:
        loader = ImageDataLoader(reader, tmp_path / "0.tar", num_workers=2, **arguments)
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        assert sum(len(batch["image"]) for batch in loader) == 3
        return type(loader._workers).__name__

    class OtherReader(WebDatasetReader):
        """Its images may be what processes cannot share."""

    write_shard(tmp_path / "0.tar", iter(range(3)))
    reader = WebDatasetReader()
    assert kind(reader) == "ProcessWorkers"
    assert kind(OtherReader()) == "ThreadWorkers"
    assert kind(reader, worker="thread") == "ThreadWorkers"
    with patch.object(WebDatasetReader, "num_images", return_value=3):
        assert kind(reader) == "ThreadWorkers"


def test_processes_start_before_a_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(ReadAhead):
        def __init__(self, *args: Any) -> None:
            workers = loader._workers
            assert isinstance(workers, ProcessWorkers)
            processes.append(len(workers._executor._processes))
            super().__init__(*args)

    write_shard(tmp_path / "0.tar", iter(range(3)))
    data = (WebDatasetReader(), tmp_path / "0.tar")
    loader = ImageDataLoader(*data, num_workers=2, worker="process")
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    processes: List[int] = []
    monkeypatch.setattr(image_data_loader, "ReadAhead", Watched)
    assert sum(len(batch["image"]) for batch in loader) == 3
    assert processes[0] > 0


def test_read_ahead_reads_so_many_and_no_more() -> None:
    read: List[int] = []

    def source() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    items = ReadAhead(source(), 3)
    deadline = time.monotonic() + 20
    while len(read) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) == 3
    assert list(items) == list(range(10))
    assert list(items) == []


def test_read_ahead_passes_on_an_error_in_its_place() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ImageError("damaged")

    items = ReadAhead(source(), 3)
    assert next(items) == 1
    for _ in range(2):
        with pytest.raises(ImageError, match="damaged"):
            next(items)
