import copy
import itertools
import multiprocessing
import os
import random
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List

import numpy as np
import pytest
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DataLoader, DatasetReader, Instance, Token, Vocabulary
from allennlp.data.data_loaders import MultiProcessDataLoader, SimpleDataLoader
from allennlp.data.fields import (
    LabelField,
    ListField,
    MetadataField,
    MultiLabelField,
    SequenceLabelField,
    TensorField,
    TextField,
)
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from PIL import Image

from allencv.common.memory import reused_memory
from allencv.data.class_weightings import Balanced
from allencv.data.data_loaders import ImageDataLoader, image_data_loader
from allencv.data.data_loaders.image_data_loader import in_batches
from allencv.data.data_loaders.process_workers import (
    ProcessWorkers,
    WorkerEnded,
    processes_share_memory,
)
from allencv.data.data_loaders.workers import ThreadWorkers
from allencv.data.dataset_readers import ImageDatasetReader, ImageFolderReader
from allencv.data.fields import ImageField
from allencv.data.transforms import ImageTransform, RandomResizedCrop
from allencv.runtime import ImageError
from tests.conftest import write_images

SIZE = 23
LABELS = ("cat", "dog", "fox")
WORKERS: List[Dict[str, Any]] = [
    {"num_workers": 0},
    {"num_workers": 1},
    {"num_workers": 3},
    {"num_workers": 2, "worker": "process"},
]
some_workers = pytest.mark.parametrize("workers", [WORKERS[0], WORKERS[2], WORKERS[3]])
AUGMENTATION = [
    {"type": "random_resized_crop", "size": 8},
    {"type": "color_jitter", "brightness": 0.5, "hue": 0.2},
    {"type": "random_erasing", "p": 0.5, "value": "random"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 images of three classes. The red of each is its number, `number % 3` its class."""
    root = tmp_path_factory.mktemp("numbered")
    noise = np.random.default_rng(0)
    for number in range(SIZE):
        pixels = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        pixels[:, :, 0] = number
        path = root / LABELS[number % 3] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def make_loader(folder: Path, transforms: Any = (), **arguments: Any) -> ImageDataLoader:
    arguments = {"batch_size": 4, "num_workers": 0, **arguments}
    loader = ImageDataLoader(ImageFolderReader(transforms=list(transforms)), folder, **arguments)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def augmentation() -> List[ImageTransform]:
    return [ImageTransform.from_params(Params(dict(params))) for params in AUGMENTATION]


def numbers(batch: Any) -> List[int]:
    return batch["image"][:, 0, 0, 0].int().tolist()


def epoch(loader: Iterable) -> List[int]:
    return [number for batch in loader for number in numbers(batch)]


# The batches.


@some_workers
def test_the_batches(folder: Path, workers: Dict[str, Any]) -> None:
    loader = ImageDataLoader(ImageFolderReader(), folder, batch_size=4, **workers)
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    batches = list(loader)
    assert len(loader) == len(batches) == 6
    assert [len(batch["label"]) for batch in batches] == [4, 4, 4, 4, 4, 3]
    for batch in batches:
        assert list(batch) == ["image", "label", "metadata"]
        assert batch["image"].shape[1:] == (3, 12, 10)
        assert batch["image"].dtype == torch.uint8
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        for place, number in enumerate(numbers(batch)):
            label = LABELS[number % 3]
            path = folder / label / f"{number}.png"
            assert vocab.get_token_from_index(int(batch["label"][place]), "labels") == label
            assert batch["metadata"][place] == {"image": str(path)}
            pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)
            assert batch["image"][place].equal(pixels)


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 23), (5, 4), (22, 1), (23, 1)])
def test_drop_last_leaves_out_a_smaller_batch(folder: Path, batch_size: int, batches: int) -> None:
    loader = make_loader(folder, batch_size=batch_size, drop_last=True)
    sizes = [len(batch["label"]) for batch in loader]
    assert len(loader) == batches
    assert sizes == [batch_size] * batches


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_has_each_image_once(folder: Path, workers: Dict[str, Any], shuffle: bool) -> None:
    loader = make_loader(folder, shuffle=shuffle, **workers)
    for _ in range(2):
        assert sorted(epoch(loader)) == list(range(SIZE))


def test_set_target_device(folder: Path) -> None:
    loader = make_loader(folder)
    loader.set_target_device(torch.device("meta"))
    batch = next(iter(loader))
    assert batch["image"].device.type == batch["label"].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@some_workers
def test_batches_arrive_whole_on_a_gpu(folder: Path, workers: Dict[str, Any]) -> None:
    loader, expected = make_loader(folder, **workers), make_loader(folder)
    loader.set_target_device(torch.device("cuda", 0))
    for batch, reference in zip(loader, expected):
        assert batch["image"].device.type == batch["label"].device.type == "cuda"
        assert batch["image"].cpu().equal(reference["image"])
        assert batch["label"].cpu().equal(reference["label"])


@pytest.mark.skipif(not processes_share_memory(), reason="needs forked processes")
def test_auto_takes_processes_for_many_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kind(**arguments: Any) -> str:
        loader = make_loader(folder, **{"num_workers": 2, **arguments})
        list(loader)
        return type(loader._workers).__name__

    assert kind() == "ThreadWorkers"
    monkeypatch.setattr(image_data_loader, "MANY_IMAGES", SIZE)
    assert kind() == "ProcessWorkers"
    monkeypatch.setattr(image_data_loader, "cpu_count", lambda: 1)
    many = make_loader(folder, num_workers=16, prefetch_batches=1)
    list(many)
    assert many._workers._executor._max_workers == 2  # type: ignore[union-attr]
    assert kind(worker="thread") == kind(num_workers=1) == "ThreadWorkers"
    assert kind(cache="memory") == "ThreadWorkers"  # nothing is left to decode
    monkeypatch.setattr(image_data_loader, "MANY_IMAGES", SIZE + 1)
    assert kind() == "ThreadWorkers"
    assert kind(worker="process") == "ProcessWorkers"


@pytest.mark.parametrize("workers", [*WORKERS, {"num_workers": 2, "cache": "memory"}])
def test_another_vocabulary_reaches_the_workers(folder: Path, workers: Dict[str, Any]) -> None:
    def labels(names: List[str]) -> List[int]:
        vocab = Vocabulary()
        for name in names:
            vocab.add_token_to_namespace(name, "labels")
        loader.index_with(vocab)
        return [label for batch in loader for label in batch["label"].tolist()]

    loader = make_loader(folder, **workers)
    names = sorted(loader.labels())
    last = len(names) - 1
    assert labels(names) == [last - label for label in labels(names[::-1])]


class OpenFileReader(ImageFolderReader):
    """Its images are functions, which may use a file that is open."""

    def text_to_instance(self, image: Any, *others: Any) -> Instance:
        return super().text_to_instance(image if callable(image) else lambda: image, *others)


def test_auto_takes_threads_for_functions_of_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_data_loader, "MANY_IMAGES", 1)
    loader = ImageDataLoader(OpenFileReader(), folder, num_workers=2)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    assert sum(len(batch["image"]) for batch in loader) == SIZE
    assert isinstance(loader._workers, ThreadWorkers)


def test_a_daemon_process_can_have_no_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_data_loader, "MANY_IMAGES", 1)
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    loader = make_loader(folder, num_workers=2)
    assert sum(len(batch["image"]) for batch in loader) == SIZE
    assert isinstance(loader._workers, ThreadWorkers)
    with pytest.raises(ConfigurationError, match="a daemon process can have no processes"):
        list(make_loader(folder, num_workers=2, worker="process"))


def test_batches_for_a_gpu_are_pinned_by_workers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned_in: List[threading.Thread] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        pinned_in.append(threading.current_thread())
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", note)
    monkeypatch.setattr("allencv.data.data_loaders.workers.pinned_memory", reused_memory)
    instances = list(make_loader(folder).iter_instances())
    jobs = [[(place, 0) for place in range(4)]] * 3
    for make in (ThreadWorkers, ProcessWorkers):
        pinned_in.clear()
        for _ in make(instances, 2, 1, pin=True)(jobs):
            pass
        assert len(pinned_in) == len(jobs) * 2  # images and labels
        assert threading.main_thread() not in pinned_in


# Chance.


def test_each_epoch_has_an_order_of_its_own(folder: Path) -> None:
    loader = make_loader(folder, shuffle=True, seed=5)
    first, second = epoch(loader), epoch(loader)
    assert first != second
    assert sorted(first) != first
    same = make_loader(folder, shuffle=True, seed=5)
    assert [epoch(same), epoch(same)] == [first, second]
    assert epoch(make_loader(folder, shuffle=True, seed=6)) != first


def test_the_seed_is_torchs_own(folder: Path) -> None:
    torch.manual_seed(12)
    by_default = make_loader(folder, shuffle=True)
    torch.rand(3)
    assert by_default.seed == 12
    assert epoch(by_default) == epoch(make_loader(folder, shuffle=True, seed=12))


def test_without_shuffle_the_order_is_the_readers(folder: Path) -> None:
    loader = make_loader(folder)
    expected = sorted(range(SIZE), key=lambda number: (LABELS[number % 3], f"{number}.png"))
    assert epoch(loader) == epoch(loader) == expected


def test_whole_epochs_are_equal_to_the_bit_for_any_workers(folder: Path) -> None:
    def two_epochs(workers: Dict[str, Any]) -> List[torch.Tensor]:
        loader = make_loader(folder, augmentation(), shuffle=True, seed=3, **workers)
        return [batch["image"] for _ in range(2) for batch in loader]

    expected = two_epochs({"num_workers": 0})
    assert len({image.sum().item() for batch in expected for image in batch}) == 2 * SIZE
    for workers in WORKERS:
        torch.rand(7)  # what others draw has nothing to do with it
        assert all(map(torch.equal, two_epochs(workers), expected)), workers


@some_workers
def test_the_global_generators_are_left_alone(folder: Path, workers: Dict[str, Any]) -> None:
    def states() -> List[Any]:
        kind, keys, *position = np.random.get_state()  # noqa: NPY002
        return [random.getstate(), torch.get_rng_state().tolist(), kind, keys.tolist(), position]

    loader = make_loader(folder, augmentation(), shuffle=True, **workers)
    before = states()
    for _ in range(2):
        epoch(loader)
    assert states() == before


@pytest.mark.parametrize("workers", [WORKERS[2], WORKERS[3]])
def test_seek_goes_to_the_tail_of_an_epoch(folder: Path, workers: Dict[str, Any]) -> None:
    def images(loader: Iterable) -> List[torch.Tensor]:
        return [batch["image"] for batch in loader]

    straight = make_loader(folder, augmentation(), shuffle=True, seed=1, **workers)
    epochs = [images(straight) for _ in range(3)]
    loader = make_loader(folder, augmentation(), shuffle=True, seed=1, **workers)
    loader.seek(1, 4)
    tail = images(loader)
    assert len(tail) == 2
    assert all(map(torch.equal, tail, epochs[1][4:]))
    assert all(map(torch.equal, images(loader), epochs[2]))
    loader.seek(0)
    assert all(map(torch.equal, images(loader), epochs[0]))
    loader.seek(1, 6)
    assert images(loader) == []


def test_seek_decodes_nothing_of_what_it_leaves_out(folder: Path, decoded: List[Any]) -> None:
    loader = make_loader(folder, num_workers=2)
    loader.seek(7, 4)
    assert decoded == []
    assert len(epoch(loader)) == len(decoded) == SIZE - 4 * 4


def test_seek_counts_for_the_next_iteration_that_begins(folder: Path) -> None:
    loader = make_loader(folder, shuffle=True, seed=1)
    epochs = [epoch(loader) for _ in range(3)]
    loader.seek(0)
    first = iter(loader)
    loader.seek(2)
    assert epoch(first) == epochs[0]
    assert epoch(loader) == epochs[2]


# What cannot be read, and other errors.


@pytest.fixture
def folder_with_text(tmp_path: Path) -> Path:
    """Ten images with the numbers 0 to 9, of which 3 and 4 cannot be read."""
    (tmp_path / "cat").mkdir()
    for number in range(10):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "cat" / f"{number}.png")
    for number in (3, 4):
        (tmp_path / "cat" / f"{number}.png").write_text("this is a text")
    return tmp_path


@some_workers
def test_on_error_raise_stops_with_the_path(
    folder_with_text: Path, workers: Dict[str, Any]
) -> None:
    batches = iter(make_loader(folder_with_text, batch_size=3, **workers))
    assert numbers(next(batches)) == [0, 1, 2]
    with pytest.raises(ImageError, match=f'{folder_with_text}/cat/3.png: .*"on_error": "skip"'):
        next(batches)


@some_workers
def test_on_error_skip_leaves_out_and_counts(
    folder_with_text: Path, workers: Dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    loader = make_loader(folder_with_text, batch_size=3, on_error="skip", **workers)
    batches = list(loader)
    assert [numbers(batch) for batch in batches] == [[0, 1, 2], [5], [6, 7, 8, 9]]
    assert [len(batch["label"]) for batch in batches] == [3, 1, 4]
    for batch in batches:
        names = [Path(metadata["image"]).name for metadata in batch["metadata"]]
        assert names == [f"{number}.png" for number in numbers(batch)]
    assert loader.images_skipped == 2
    lines = [line for line in caplog.messages if line.startswith("Left out")]
    assert ["3.png" in lines[0], "4.png" in lines[1], len(lines)] == [True, True, 2]


@some_workers
def test_a_batch_without_a_readable_image_is_left_out(
    folder_with_text: Path, workers: Dict[str, Any]
) -> None:
    loader = make_loader(folder_with_text, batch_size=1, on_error="skip", **workers)
    assert epoch(loader) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert (loader.images_skipped, loader.batches_left_out) == (2, 2)
    loader.seek(1, 5)  # as after 0, 1, 2, and 3 and 4, which were left out
    assert epoch(loader) == [5, 6, 7, 8, 9]
    assert epoch(loader) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert loader.batches_left_out == 2


def folder_of(root: Path, good: int, bad: int) -> Path:
    """Good images with the numbers from 0 on, and files that cannot be read."""
    (root / "cat").mkdir()
    for number in range(good):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(root / "cat" / f"{number}.png")
    for number in range(bad):
        (root / "cat" / f"bad{number}.png").write_text("this is a text")
    return root


@pytest.mark.parametrize("workers", [WORKERS[0], WORKERS[2]])
@pytest.mark.parametrize(
    ("good", "bad", "batch_size"), [(2, 2, 2), (6, 40, 2), (6, 40, 5), (8, 2, 2)]
)
def test_an_image_that_is_left_alone_joins_the_next_batch_when_shuffling(
    tmp_path: Path, workers: Dict[str, Any], good: int, bad: int, batch_size: int
) -> None:
    folder = folder_of(tmp_path, good, bad)
    arguments = {"batch_size": batch_size, "shuffle": True, "seed": 3, "on_error": "skip"}
    loader = make_loader(folder, **arguments, **workers)
    for number in range(3):
        loader.images_skipped = 0
        batches, left_out = [], []
        for batch in loader:
            batches.append(numbers(batch))
            left_out.append(loader.batches_left_out)
        images = sorted(itertools.chain(*batches))
        assert min(map(len, batches)) >= 2
        # At most one image is left out, which nothing follows.
        assert len(set(images)) == len(images) >= good - 1
        assert loader.images_skipped == bad + good - len(images)
        assert len(batches) + loader.batches_left_out == len(loader)
        for done in range(1, len(batches)):  # as recovery goes on
            again = make_loader(folder, **arguments, **workers)
            again.batches_left_out = left_out[done - 1]
            again.seek(number, done + left_out[done - 1])
            assert [numbers(batch) for batch in again] == batches[done:]


def test_the_only_image_of_an_epoch_is_used(tmp_path: Path) -> None:
    loader = make_loader(folder_of(tmp_path, 1, 5), batch_size=2, shuffle=True, on_error="skip")
    assert [epoch(loader) for _ in range(5)] == [[0]] * 5


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_data_set_of_which_nothing_can_be_read_is_an_error(tmp_path: Path, shuffle: bool) -> None:
    loader = make_loader(folder_of(tmp_path, 0, 5), batch_size=2, shuffle=shuffle, on_error="skip")
    with pytest.raises(ImageError, match=r"no image of .* can be read; the first: .*/cat/"):
        list(loader)


@pytest.mark.parametrize(("good", "bad", "batch_size"), [(8, 2, 1), (6, 10, 2), (1, 3, 2)])
def test_a_rank_keeps_pace_with_the_others(
    tmp_path: Path, good: int, bad: int, batch_size: int
) -> None:
    folder = folder_of(tmp_path, good, bad)
    for seed in range(12):
        arguments = {"batch_size": batch_size, "shuffle": True, "seed": seed, "on_error": "skip"}
        loader = make_loader(folder, **arguments)
        loader.keep_pace()
        batches = [numbers(batch) if batch else [] for batch in loader]
        assert (len(batches), loader.batches_left_out) == (len(loader), 0)
        assert loader.count_images(0) is None
        used = list(itertools.chain(*batches))
        assert len(used) == good + bad - loader.images_skipped
        assert sorted(used) == sorted(set(used) & set(range(good)))


def test_a_rank_that_can_read_nothing_notes_why(tmp_path: Path) -> None:
    loader = make_loader(folder_of(tmp_path, 0, 3), batch_size=2, shuffle=True, on_error="skip")
    loader.keep_pace()
    assert list(loader) == [{}]
    assert not loader.has_read
    assert loader.unreadable is not None
    assert loader.unreadable.startswith(f"no image of {tmp_path} can be read; the first: ")


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_fewer_images_than_ranks_are_refused(
    folder: Path, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_rank(monkeypatch, 0, SIZE + 1)
    message = f"has {SIZE} images, but distributed training has {SIZE + 1} ranks; expected as many"
    with pytest.raises(ConfigurationError, match=message):
        make_loader(folder, on_error=on_error).keep_pace()
    as_rank(monkeypatch, 0, SIZE)
    make_loader(folder, on_error=on_error).keep_pace()


# The last batch.


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(22, [23]), (11, [11, 12]), (21, [21, 2]), (2, [2] * 10 + [3]), (1, [1] * 23), (30, [23])],
)
def test_a_last_image_is_joined_to_the_batch_before(
    folder: Path, shuffle: bool, batch_size: int, sizes: List[int]
) -> None:
    loader = make_loader(folder, batch_size=batch_size, shuffle=shuffle, seed=3)
    batches = [numbers(batch) for batch in loader]
    assert [len(batch) for batch in batches] == sizes
    assert len(loader) == len(sizes)
    assert sorted(itertools.chain(*batches)) == list(range(SIZE))
    for start in range(len(sizes) + 1):
        loader.seek(0, start)
        assert [numbers(batch) for batch in loader] == batches[start:]


def test_a_single_image_is_a_batch() -> None:
    assert list(in_batches(iter([7]), 4, drop_last=False)) == [[7]]
    assert list(in_batches(iter([]), 4, drop_last=False)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_of_any_number_of_items(size: int, drop_last: bool) -> None:
    for count in range(13):
        batches = list(in_batches(iter(range(count)), size, drop_last))
        items = list(itertools.chain(*batches))
        assert items == list(range(count - count % size if drop_last else count))
        assert all(len(batch) == size for batch in batches[:-1])
        alone = size > 1 and count > 1 and [1] in [list(map(len, batches[-1:]))]
        assert not alone


class Broken(ImageTransform):
    def __init__(self, number: int, error: BaseException) -> None:
        self.number = number
        self.error = error

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if image[0, 0, 0] == self.number:
            raise self.error
        return image


@some_workers
def test_an_error_in_a_transform_names_the_image(folder: Path, workers: Dict[str, Any]) -> None:
    loader = make_loader(folder, [Broken(5, IndexError("mine"))], **workers)
    with pytest.raises(ImageError) as error:
        list(loader)
    assert str(error.value).startswith(
        f"{folder}/fox/5.png: Broken (dataset_reader.transforms.0) cannot be applied to an image "
        "of 3 x 12 x 10 (channels, height, width): IndexError: mine (in "
    )


@some_workers
def test_an_image_that_cannot_be_transformed_is_skipped(
    folder: Path, workers: Dict[str, Any]
) -> None:
    loader = make_loader(folder, [Broken(5, IndexError())], on_error="skip", **workers)
    assert sorted(epoch(loader)) == [number for number in range(SIZE) if number != 5]


def test_a_thread_that_exits_hangs_nobody(folder: Path) -> None:
    loader = make_loader(folder, [Broken(5, SystemExit(3))], num_workers=2)
    with pytest.raises(SystemExit):
        list(loader)


@pytest.mark.parametrize("workers", [WORKERS[0], WORKERS[1], WORKERS[3]])
def test_a_batch_that_cannot_be_made_hangs_nobody(folder: Path, workers: Dict[str, Any]) -> None:
    def crop_some(image: torch.Tensor) -> torch.Tensor:
        return image[:1] if image[0, 0, 0] == 5 else image

    loader = make_loader(folder, [crop_some], **workers)
    with pytest.raises(ConfigurationError, match="expected one type and one number of channels"):
        list(loader)
    loader.seek(0)
    assert len(numbers(next(iter(loader)))) == 4


def test_an_unknown_label_is_named(folder: Path, folder_with_text: Path) -> None:
    cats = ImageDataLoader(ImageFolderReader(), folder_with_text)
    loader = ImageDataLoader(ImageFolderReader(), folder)
    with pytest.raises(ConfigurationError) as error:
        loader.index_with(Vocabulary.from_instances(cats.iter_instances()))
    assert str(error.value) == (
        f"label 'dog' of {folder}/dog/1.png is not in the vocabulary, whose namespace 'labels' "
        "holds cat; train on images of it, or take it out"
    )


def test_another_word_that_the_vocabulary_lacks_is_named() -> None:
    class TagReader(DatasetReader):
        def _read(self, file_path: Any) -> Iterator[Instance]:
            words = TextField([Token("cats")], {})
            yield Instance({"words": words, "tags": SequenceLabelField(["noun"], words)})

    loader = ImageDataLoader(TagReader(), "")
    with pytest.raises(ConfigurationError, match="'noun' not found in vocab namespace 'labels'"):
        loader.index_with(Vocabulary())


def test_labels(folder: Path) -> None:
    assert make_loader(folder).labels() == {"cat": 8, "dog": 8, "fox": 7}


def test_a_loader_without_vocabulary_says_so(folder: Path) -> None:
    loader = ImageDataLoader(ImageFolderReader(), folder)
    with pytest.raises(ConfigurationError, match=r"index_with\(vocab\)"):
        iter(loader)


# The configuration.


def test_from_params_as_allennlp_constructs_it(folder: Path) -> None:
    params = Params({"type": "image", "batch_size": 5, "shuffle": True, "worker": "process"})
    lazy = Lazy(DataLoader, params)
    loader = lazy.construct(reader=ImageFolderReader(), data_path=str(folder))
    assert isinstance(loader, ImageDataLoader)
    assert (loader.batch_size, loader.shuffle, loader.worker) == (5, True, "process")
    assert loader.num_workers >= 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"batchsize": 4}, "'batchsize'; expected one of batch_size, "),
        ({"batch_size": 0}, "data_loader.batch_size is 0; expected at least 1"),
        ({"num_workers": -1}, "data_loader.num_workers is -1; expected at least 0"),
        ({"prefetch_batches": 0}, "data_loader.prefetch_batches is 0; expected at least 1"),
        (
            {"worker": "threads"},
            "data_loader.worker is 'threads'; expected one of thread, auto, process",
        ),
        ({"on_error": "ignore"}, "data_loader.on_error is 'ignore'; expected one of raise, skip"),
    ],
)
def test_a_wrong_configuration_is_refused(
    folder: Path, params: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DataLoader.from_params(
            Params({"type": "image", **params}), reader=ImageFolderReader(), data_path=folder
        )


def test_an_epoch_without_a_batch_is_refused(folder: Path) -> None:
    loader = make_loader(folder, batch_size=24, drop_last=True)
    for use in (len, list):
        with pytest.raises(ConfigurationError, match="batch_size is 24, but .* has only 23 images"):
            use(loader)
    loader.for_evaluation = True
    assert len(loader) == len(list(loader)) == 1


class NoReader(ImageDatasetReader):
    def read_samples(self, file_path: Any) -> List[Any]:
        return []


def test_no_image_at_all_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NoReader found no image in nowhere"):
        ImageDataLoader(NoReader(), "nowhere")


# Distributed training.


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr("allennlp.common.util.is_distributed", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: rank)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: world_size)


@pytest.mark.parametrize("world_size", [2, 3, 50])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_divide_the_batches_of_one_process(
    folder: Path, world_size: int, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_loader(folder, batch_size=4 * world_size, shuffle=shuffle, seed=1)
    expected = [numbers(batch) for batch in alone]
    shares = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        loader = make_loader(folder, batch_size=4, shuffle=shuffle, seed=1)
        shares.append([numbers(batch) for batch in loader])
        # To evaluate, there may be fewer images than ranks.
        assert len(shares[-1]) == (len(loader) if rank < SIZE else 0)
        assert loader.count_images(0) == min(SIZE, 4 * world_size)
        loader.seek(7, 1)
        assert [len(batch["image"]) for batch in loader] == [len(each) for each in shares[-1][1:]]
    batches = list(itertools.zip_longest(*shares, fillvalue=[]))
    assert [list(itertools.chain(*batch)) for batch in batches] == expected


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12])
@pytest.mark.parametrize("world_size", [1, 2, 3, 50])
def test_to_evaluate_ranks_take_turns_with_the_batches_of_one_process(
    folder: Path, world_size: int, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_loader(folder, augmentation(), batch_size=batch_size, seed=1)
    expected = list(alone)
    training = {"shuffle": True, "repeats": 2, "drop_last": True, "class_weighting": Balanced()}
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        loader = make_loader(folder, augmentation(), batch_size=batch_size, seed=1, **training)
        loader.keeps_pace = loader.for_evaluation = True
        found = list(loader)
        assert len(found) == len(loader) == len(expected[rank::world_size])
        for batch, other in zip(found, expected[rank::world_size]):
            assert torch.equal(batch["image"], other["image"])
            assert torch.equal(batch["label"], other["label"])


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_rank_takes_an_image_with_all_its_repeats(
    folder: Path, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        loader = make_loader(folder, shuffle=True, seed=1, repeats=4, drop_last=True)
        for batch in loader:
            assert len(set(numbers(batch))) == 1
        used += epoch(loader)
    assert {used.count(number) for number in set(used)} == {4}
    assert len(used) == SIZE // (4 * world_size) * 4 * world_size


def test_what_an_image_draws_does_not_depend_on_its_rank(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = make_loader(folder, augmentation(), batch_size=1, shuffle=True, seed=1)
    expected = [batch["image"] for batch in alone]
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        loader = make_loader(folder, augmentation(), batch_size=1, shuffle=True, seed=1)
        assert all(map(torch.equal, (batch["image"] for batch in loader), expected[rank:20:2]))


# Other readers and fields.


class PlainReader(DatasetReader):
    """A reader that is none of ours, with every kind of field."""

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for number in range(7):
            words = [Token(word) for word in ["a", "picture", "of", "cats"][: 1 + number % 4]]
            image = ImageField(np.full((4, 4 + number, 3), number, np.uint8))
            fields = {
                "tensor": TensorField(torch.arange(number + 1.0), padding_value=-1),
                "image": image,
                "text": TextField(words),
                "labels": MultiLabelField(LABELS[: number % 3]),
                "views": ListField([image] * (1 + number % 2)),
                "source": LabelField(number, skip_indexing=True, label_namespace="sources"),
                "metadata": MetadataField({"number": number}),
            }
            yield Instance(fields)

    def apply_token_indexers(self, instance: Instance) -> None:
        instance["text"].token_indexers = {
            "tokens": SingleIdTokenIndexer(),
            "characters": TokenCharactersIndexer(min_padding_length=3),
        }


class ShardingReader(PlainReader):
    """Which gives each rank and worker its share as AllenNLP advises."""

    def __init__(self) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True)

    def _read(self, file_path: Any) -> Iterator[Instance]:
        yield from self.shard_iterable(super()._read(file_path))


def same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and first.equal(second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    return first == second


@some_workers
def test_every_field_is_batched_as_allennlp_does(workers: Dict[str, Any]) -> None:
    loader = ImageDataLoader(PlainReader(), "", batch_size=4, **workers)
    instances = list(loader.iter_instances())
    loader.index_with(Vocabulary.from_instances(instances))
    assert loader.labels() == {"cat": 4, "dog": 2}
    batches = list(loader)
    assert len(batches) == 2
    for number, batch in enumerate(batches):
        assert same(batch, Batch(instances[4 * number : 4 * number + 4]).as_tensor_dict())


@pytest.mark.parametrize("reader_class", [PlainReader, ShardingReader])
def test_a_rank_lists_all_that_any_reader_has(
    reader_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        reader = reader_class()
        loader = ImageDataLoader(reader, "", batch_size=2, num_workers=0)
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        assert len(list(loader.iter_instances())) == 7
        found += [metadata["number"] for batch in loader for metadata in batch["metadata"]]
        assert len(list(reader.read(""))) == len(range(rank, 7, 2))  # the reader is as it was
    assert sorted(found) == list(range(7))


def test_random_transforms_of_a_list_of_images_are_reproducible() -> None:
    class Views(DatasetReader):
        def _read(self, file_path: Any) -> Iterator[Instance]:
            for _ in range(6):
                view = ImageField(np.zeros((1, 1, 3), np.uint8), lambda image: torch.rand(1, 4, 4))
                yield Instance({"views": ListField([view, view])})

    def views(num_workers: int) -> torch.Tensor:
        loader = ImageDataLoader(Views(), "", batch_size=6, num_workers=num_workers, seed=1)
        loader.index_with(Vocabulary())
        return next(iter(loader))["views"]

    before = torch.get_rng_state()
    assert views(0).equal(views(3))
    assert len(views(0).flatten(2).sum(2).unique()) == 12
    assert torch.get_rng_state().equal(before)


def test_allennlps_own_loaders_take_our_readers(folder: Path) -> None:
    expected = {batch["image"].numpy().tobytes() for batch in make_loader(folder, batch_size=1)}
    reader = ImageFolderReader()
    loaders: List[DataLoader] = [
        SimpleDataLoader.from_dataset_reader(reader, str(folder), batch_size=1),
        MultiProcessDataLoader(reader, str(folder), batch_size=1, shuffle=True),
        MultiProcessDataLoader(reader, str(folder), batch_size=1, num_workers=2),
        MultiProcessDataLoader(
            reader, str(folder), batch_size=1, num_workers=2, max_instances_in_memory=8
        ),
    ]
    for loader in loaders:
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        images = [batch["image"].numpy().tobytes() for batch in loader]
        assert len(images) == SIZE
        assert set(images) == expected


def test_an_endless_number_of_epochs(folder: Path) -> None:
    loader = make_loader(folder, shuffle=True, num_workers=2)
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    assert sum(len(batch["label"]) for batch in itertools.islice(endless, 60)) == 10 * SIZE


@pytest.mark.skipif(not processes_share_memory(), reason="needs forked processes")
def test_new_processes_start_after_one_has_died(folder: Path, tmp_path: Path) -> None:
    broken, parent = tmp_path / "broken", os.getpid()

    def die(image: torch.Tensor) -> torch.Tensor:
        if os.getpid() != parent and broken.exists():
            os._exit(9)
        return image

    loader = make_loader(folder, [die], num_workers=2, worker="process")
    loader.another_epoch_follows = True
    for _ in range(2):
        broken.touch()
        with pytest.raises(WorkerEnded):
            list(loader)
        broken.unlink()
        for _ in range(2):
            assert sum(len(batch["image"]) for batch in loader) == SIZE


@pytest.mark.skipif(not processes_share_memory(), reason="needs forked processes")
@some_workers
def test_a_copy_and_a_forked_process_have_their_own_workers(
    folder: Path, workers: Dict[str, Any]
) -> None:
    loader = make_loader(folder, **workers)
    loader.another_epoch_follows = True
    expected = [numbers(batch) for batch in loader]
    assert [numbers(batch) for batch in copy.deepcopy(loader)] == expected

    def use() -> None:
        assert [numbers(batch) for batch in loader] == expected

    def use_and_exit() -> None:
        use()
        os._exit(0)

    process = multiprocessing.Process(target=use_and_exit)
    process.start()
    process.join(60)
    exit_code = process.exitcode  # `None` if it hangs
    process.kill()
    assert exit_code == 0
    use()


# The next epoch's first batches, ahead of time.


def test_prefetch_begins_with_the_next_epoch_and_changes_nothing(
    folder: Path, decoded: List[Any]
) -> None:
    transforms, arguments = augmentation(), {"num_workers": 2, "shuffle": True, "seed": 1}
    plain = make_loader(folder, transforms, **arguments)
    expected = [batch["image"] for _ in range(3) for batch in plain]
    decoded.clear()

    loader = make_loader(folder, transforms, **arguments)
    found = []
    for number in range(3):
        loader.another_epoch_follows = number < 2
        found += [batch["image"] for batch in loader]
        if number < 2:
            ahead = min(SIZE, loader.prefetch_batches * loader.batch_size)
            wait_until(lambda count=(number + 1) * SIZE + ahead: len(decoded) == count)
    assert len(decoded) == 3 * SIZE
    assert len(found) == len(expected)
    for batch, expected_batch in zip(found, expected):
        assert torch.equal(batch, expected_batch)


def test_epochs_shorter_than_what_is_prefetched(folder: Path) -> None:
    loader = make_loader(folder, num_workers=2, batch_size=SIZE, prefetch_batches=4)
    loader.another_epoch_follows = True
    for _ in range(4):
        assert [len(batch["image"]) for batch in loader] == [SIZE]


def test_an_epoch_that_cannot_be_prefetched_is_not_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(epoch: int) -> None:
        raise MemoryError("mine")

    loader = make_loader(folder, num_workers=2)
    with monkeypatch.context() as patch:
        patch.setattr(loader.images, "order", fail)
        with pytest.raises(MemoryError, match="mine"):
            loader.prefetch()
    assert sum(len(batch["image"]) for batch in loader) == SIZE


def test_a_prefetched_epoch_is_given_up_for_another(folder: Path) -> None:
    loader, plain = make_loader(folder, num_workers=2), make_loader(folder, num_workers=2)
    loader.prefetch()
    loader.seek(2, 1)
    plain.seek(2, 1)
    for batch, expected in zip(loader, plain):
        assert torch.equal(batch["image"], expected["image"])


# Rare classes.


def test_class_weighting_draws_rare_classes_more_often(tmp_path: Path) -> None:
    for label, count in {"common": 45, "rare": 5}.items():
        (tmp_path / label).mkdir()
        for number in range(count):
            Image.new("RGB", (2, 2)).save(tmp_path / label / f"{number}.png")
    arguments = {"shuffle": True, "seed": 3, "batch_size": 10, "class_weighting": Balanced()}
    loader = make_loader(tmp_path, **arguments)
    assert len(loader) == 5
    epochs = [torch.cat([batch["label"] for batch in loader]) for _ in range(20)]
    assert {len(epoch) for epoch in epochs} == {50}
    share = torch.cat(epochs).float().mean().item()  # label 1 is the rare one
    assert share == pytest.approx(0.5, abs=0.05)
    again = make_loader(tmp_path, num_workers=2, **arguments)
    assert torch.equal(torch.cat([batch["label"] for batch in again]), epochs[0])


def test_class_weighting_needs_shuffle_and_labels(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match='expected "shuffle": true'):
        make_loader(folder, class_weighting=Balanced())


def test_the_images_of_each_class_are_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        make_loader(folder)
    assert f"23 images in {folder}: cat 8, dog 8, fox 7" in caplog.text


def test_an_image_drawn_twice_is_transformed_differently(folder: Path) -> None:
    arguments = {"shuffle": True, "seed": 3, "batch_size": 6, "repeats": 3}
    plain = make_loader(folder, **arguments)
    batches = [numbers(batch) for batch in plain]
    assert [len(batch) for batch in batches] == [6, 6, 6, 5]
    drawn = [number for batch in batches for number in batch]
    assert len(set(drawn)) == 8  # of 23 images every third is another
    assert all(drawn[i] == drawn[i - i % 3] for i in range(len(drawn)))
    # Another epoch has other images: all have their turn.
    assert {number for _ in range(20) for batch in plain for number in numbers(batch)} == set(
        range(SIZE)
    )
    transformed = make_loader(folder, [RandomResizedCrop(4)], **arguments)
    first, second, third = next(iter(transformed))["image"][:3]
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_repeats_need_shuffle(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match='repeats is 2; expected "shuffle": true'):
        make_loader(folder, repeats=2)


def test_identity_changes_with_an_image_or_a_label(tmp_path: Path) -> None:
    for name, counts in (("one", {"a": 2, "b": 1}), ("more", {"a": 2, "b": 2})):
        write_images(tmp_path / name / "data", counts, size=4)
    found = []
    for name in ("one", "more", "one"):
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path / name)
            found.append(make_loader(Path("data")).identity())
    (tmp_path / "one/data/a/001.jpg").rename(tmp_path / "one/data/a/002.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "one")
        found.append(make_loader(Path("data")).identity())
    one, more, again, renamed = found
    assert one == again
    assert (one["images"], one["labels"]) == (3, {"a": 2, "b": 1})
    assert more["labels"] == {"a": 2, "b": 2}
    assert {**renamed, "sha256 of the list": ""} == {**one, "sha256 of the list": ""}
    assert renamed != one
