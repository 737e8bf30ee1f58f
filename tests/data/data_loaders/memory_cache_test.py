import logging
import multiprocessing
import os
import re
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader, Instance, Vocabulary
from allennlp.data.fields import ListField
from PIL import Image

from allencv.data.class_weightings import Balanced
from allencv.data.data_loaders import ImageDataLoader, memory_cache
from allencv.data.data_loaders.cache_memory import RanksMemory
from allencv.data.data_loaders.kept_images import bytes_of
from allencv.data.data_loaders.memory_cache import CachedInstances
from allencv.data.data_loaders.workers import ThreadWorkers, load
from allencv.data.dataset_readers import ImageDatasetReader, ImageFolderReader
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.fields import ImageField
from allencv.data.transforms import CenterCrop, ImageTransform, Normalize, Resize, TrainLight
from allencv.runtime import ImageError

SIZE = 23
LABELS = ("cat", "dog", "fox")
PREFIX = [{"type": "resize", "height": 9, "width": 8}]
TRANSFORMS: Dict[str, List[Dict[str, Any]]] = {
    "none": [],
    "fixed": PREFIX,
    "fixed, float": [*PREFIX, {"type": "normalize", "mean": [0.5] * 3, "std": [0.2] * 3}],
    "a strided view": [{"type": "center_crop", "size": 7}],
    "one channel": [{"type": "grayscale"}],
    "fixed, then random": [
        *PREFIX,
        {"type": "color_jitter", "brightness": 0.5, "hue": 0.2},
        {"type": "random_erasing", "p": 0.5, "value": "random", "inplace": True},
        {"type": "eval", "size": 6},
    ],
    "random": [
        {"type": "random_resized_crop", "size": 6},
        {"type": "random_horizontal_flip"},
    ],
}
THREADS = {"num_workers": 3}
PROCESSES = {"num_workers": 2, "worker": "process"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 images of three classes, of different sizes; the last cannot be read."""
    root = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    for number in range(SIZE):
        path = root / LABELS[number % 3] / f"{number:02d}.{'jpg' if number % 2 else 'png'}"
        path.parent.mkdir(exist_ok=True)
        pixels = noise.integers(0, 256, (12 + number % 4, 10 + number % 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def transforms(name: str) -> List[ImageTransform]:
    return [ImageTransform.from_params(Params(dict(params))) for params in TRANSFORMS[name]]


def indexed(loader: ImageDataLoader) -> ImageDataLoader:
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def make_loader(folder: Path, steps: List[ImageTransform], **arguments: Any) -> ImageDataLoader:
    arguments = {"batch_size": 4, "num_workers": 0, "seed": 7, **arguments}
    return indexed(ImageDataLoader(ImageFolderReader(transforms=steps), folder, **arguments))


def assert_same(batches: List[Any], expected: List[Any]) -> None:
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected):
        assert list(batch) == list(other)
        assert batch["metadata"] == other["metadata"]
        for key in ("image", "label"):
            assert batch[key].dtype == other[key].dtype
            assert batch[key].stride() == other[key].stride()
            assert torch.equal(batch[key], other[key])


# The same batches.


@pytest.mark.parametrize("workers", [{"num_workers": 0}, THREADS])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_batches_are_those_without_a_cache(folder: Path, name: str, workers: Any) -> None:
    steps = transforms(name)
    plain = make_loader(folder, steps, shuffle=True)
    cached = make_loader(folder, steps, shuffle=True, cache="memory", **workers)
    for _ in range(3):
        assert_same(list(cached), list(plain))


@pytest.mark.parametrize(
    "options",
    [
        {"repeats": 3},
        {"class_weighting": Balanced()},
        {"drop_last": True, "batch_size": 5},
    ],
    ids=lambda options: "-".join(options),
)
def test_whatever_the_order(folder: Path, options: Any) -> None:
    steps = transforms("fixed, then random")
    plain = make_loader(folder, steps, shuffle=True, **options)
    cached = make_loader(folder, steps, shuffle=True, cache="memory", **THREADS, **options)
    for _ in range(2):
        assert_same(list(cached), list(plain))


def test_processes(folder: Path) -> None:
    steps = transforms("fixed, then random")
    plain = make_loader(folder, steps, shuffle=True)
    cached = make_loader(folder, steps, shuffle=True, cache="memory", **PROCESSES)
    for _ in range(2):
        assert_same(list(cached), list(plain))


def test_resuming_within_an_epoch(folder: Path) -> None:
    steps = transforms("random")
    plain = make_loader(folder, steps, shuffle=True)
    list(plain)
    cached = make_loader(folder, steps, shuffle=True, cache="memory")
    cached.seek(1, 2)
    assert_same(list(cached), list(plain)[2:])


def test_an_evaluation_after_training(folder: Path) -> None:
    steps = transforms("random")
    plain = make_loader(folder, steps, shuffle=True)
    cached = make_loader(folder, steps, shuffle=True, cache="memory")
    assert_same(list(cached), list(plain))
    plain.for_evaluation = cached.for_evaluation = True
    assert_same(list(cached), list(plain))


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / "cat" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (5, 5), (number, 0, 0)).save(path)
    path.write_bytes(b"no image")
    options = {"shuffle": True, "on_error": "skip", "batch_size": 3}
    plain = make_loader(tmp_path, [], **options)
    cached = make_loader(tmp_path, [], cache="memory", **options)
    for _ in range(2):
        assert_same(list(cached), list(plain))
    assert cached.images_skipped == plain.images_skipped == 2
    with pytest.raises(ImageError, match=re.escape(str(path))):
        list(make_loader(tmp_path, [], cache="memory"))


# What is done once.


def test_each_image_is_decoded_once(folder: Path, decoded: List[Any]) -> None:
    loader = make_loader(folder, transforms("fixed, then random"), cache="memory", **THREADS)
    for _ in range(3):
        list(loader)
    assert len(decoded) == len(set(decoded)) == SIZE


def test_fixed_transforms_run_once(folder: Path) -> None:
    class Once(ImageTransform):
        is_random = False
        calls = 0

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            Once.calls += 1
            return image

    class Silent(ImageTransform):
        """It does not say whether it draws."""

        calls = 0

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            Silent.calls += 1
            return image

    loader = make_loader(folder, [Once(), *transforms("fixed"), Silent()], cache="memory")
    for _ in range(2):
        list(loader)
    assert Once.calls == SIZE
    assert Silent.calls == 2 * SIZE


def test_a_transform_may_write_into_its_image(folder: Path) -> None:
    class Inverted(ImageTransform):
        is_random = True

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image.bitwise_not_()

    loader = make_loader(folder, [*transforms("fixed"), Inverted()], cache="memory")
    assert_same(list(loader), list(loader))


def test_a_transform_that_draws_and_denies_it_is_refused(folder: Path) -> None:
    class Liar(ImageTransform):
        is_random = False

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return image + torch.rand(())

    with pytest.raises(
        ConfigurationError, match=r"draws random numbers, .*Liar.*; expected is_ran"
    ):
        list(make_loader(folder, [Liar()], cache="memory"))


def test_a_transform_in_the_rest_is_named_by_its_place(folder: Path) -> None:
    class Broken(ImageTransform):
        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    with pytest.raises(ImageError, match=r"Broken \(dataset_reader.transforms.1\) cannot be"):
        list(make_loader(folder, [*transforms("fixed"), Broken()], cache="memory"))


class SeveralReader(DatasetReader):
    """Not of this project: an image, and a list of images, in each instance."""

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for number in range(5):
            images = [np.full((4, 4, 3), 50 * number + each, np.uint8) for each in range(3)]
            one, *others = map(ImageField, images)
            yield Instance({"image": one, "others": ListField(others)})


def test_instances_with_several_images() -> None:
    arguments = {"batch_size": 2, "num_workers": 0, "shuffle": True, "seed": 3}
    plain = indexed(ImageDataLoader(SeveralReader(), "x", **arguments))
    cached = indexed(ImageDataLoader(SeveralReader(), "x", cache="memory", **arguments))
    for _ in range(2):
        for batch, expected in zip(cached, plain, strict=True):
            assert torch.equal(batch["image"], expected["image"])
            assert torch.equal(batch["others"], expected["others"])


# The memory.


@pytest.mark.parametrize(
    ("gb", "processes", "limit"),
    [
        (1e-6, 1, "data_loader.max_cache_gb is 0.00 GB"),
        (None, 1, "half of the available memory is 0.00 GB"),
        (None, 4, "half of the available memory, divided among 4 processes is 0.00 GB"),
        (9.0, 1, "the available memory is 0.00 GB"),
    ],
)
def test_too_little_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, gb: Any, processes: int, limit: str
) -> None:
    monkeypatch.setattr(memory_cache, "available_memory", lambda: 4_000)
    loader = make_loader(folder, transforms("fixed"))
    with pytest.raises(ConfigurationError) as error:
        CachedInstances(loader.images.instances, gb, processes)  # type: ignore[arg-type]
    assert "23 images of 256 bytes take 0.00 GB" in str(error.value)
    assert limit in str(error.value)


def test_too_little_memory_on_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000, 20_000))
    instances: Any = make_loader(folder, transforms("fixed")).images.instances
    message = (
        'data_loader.cache is "device", but 23 images of 256 bytes take 0.00 GB, and half of the '
        "free memory of cuda:1 is 0.00 GB"
    )
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        CachedInstances(instances, device=torch.device("cuda:1"))


def test_a_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device that copies as a GPU does, and on one without a memory of its own."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    plain = make_loader(folder, transforms("fixed, then random"), shuffle=True)
    cached = make_loader(folder, transforms("fixed, then random"), shuffle=True, cache="device")
    on_device = make_loader(folder, transforms("fixed, then random"), shuffle=True)
    instances: Any = on_device.images.instances
    cached_there = CachedInstances(instances, device=torch.device("cpu"))
    on_device._workers = ThreadWorkers(cached_there, 2, 3)
    for _ in range(3):
        expected = list(plain)
        assert_same(list(cached), expected)
        assert_same(list(on_device), expected)


def test_enough_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(folder, transforms("fixed"))
    instances: Any = loader.images.instances
    needed = SIZE * 256
    monkeypatch.setattr(memory_cache, "available_memory", lambda: 2 * needed)
    assert CachedInstances(instances)
    assert CachedInstances(instances, 2 * needed / 1e9)
    with pytest.raises(ConfigurationError):
        CachedInstances(instances, processes=2)
    monkeypatch.setattr(memory_cache, "available_memory", lambda: None)
    assert CachedInstances(instances, needed / 1e9)
    with pytest.raises(ConfigurationError, match="expected data_loader.max_cache_gb"):
        CachedInstances(instances)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd_create")
def test_memory_that_another_rank_uses_is_not_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances: Any = make_loader(folder, transforms("fixed")).images.instances
    memory = RanksMemory(os.memfd_create("test"))
    first = CachedInstances(instances, memory=memory)
    monkeypatch.setattr(memory_cache, "available_memory", lambda: 1)  # the first rank has it
    with pytest.raises(ConfigurationError):
        CachedInstances(instances, memory=RanksMemory(os.memfd_create("test")))
    second = CachedInstances(instances, memory=memory)
    image = first.kept.get(3)
    assert image is not None
    assert second.kept.put(3, image + 1)  # it is there
    assert torch.equal(second.kept.get(3), image)  # type: ignore[arg-type]


def test_images_for_which_there_is_no_memory(
    folder: Path, decoded: List[Any], caplog: pytest.LogCaptureFixture
) -> None:
    class GrowingReader(ImageDatasetReader):
        """The images of the sample are smaller than the others."""

        def read_samples(self, file_path: Any) -> Iterator[Sample]:
            for number in range(64):
                yield Sample(np.full((2 + 60 * (number % 2), 3, 3), number, np.uint8))

    plain = indexed(ImageDataLoader(GrowingReader(), "x", 8, num_workers=0))
    cached = indexed(ImageDataLoader(GrowingReader(), "x", 8, num_workers=0, cache="memory"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for batch, expected in zip(cached, plain, strict=True):
                assert torch.equal(batch["image"], expected["image"])
    assert len([each for each in caplog.messages if "cannot hold" in each]) == 1


# What is refused.


def test_a_stream_is_refused(tmp_path: Path) -> None:
    reader = DatasetReader.from_params(Params({"type": "webdataset", "streaming": True}))
    with pytest.raises(ConfigurationError, match='cache is set, but .* expected "streaming": fal'):
        ImageDataLoader(reader, str(tmp_path / "a.tar"), cache="memory")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cache": "disk"}, "data_loader.cache is 'disk'; expected one of device, memory"),
        ({"max_cache_gb": 1.0}, 'max_cache_gb is 1.0; expected "cache": "memory" with it'),
        ({"cache": "device", "worker": "process"}, 'cache is "device" and worker is "process"'),
        ({"cache": "memory", "max_cache_gb": 0.0}, "max_cache_gb is 0.0; expected a number above"),
        ({"cache": "memory", "max_cache_gb": float("nan")}, "max_cache_gb is nan; expected a num"),
    ],
)
def test_wrong_arguments(folder: Path, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make_loader(folder, [], **arguments)


def test_runs_of_a_sweep_share_the_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = make_loader(folder, transforms("fixed"), cache="memory", on_error="skip")
    needed = SIZE * bytes_of(torch.zeros(3, 9, 8, dtype=torch.uint8))
    monkeypatch.setattr(memory_cache, "available_memory", lambda: 4 * needed)
    monkeypatch.setenv("ALLENCV_RUNS_AT_ONCE", "3")
    with pytest.raises(ConfigurationError, match="available memory, divided among 3 processes"):
        list(loader)
    monkeypatch.setenv("ALLENCV_RUNS_AT_ONCE", "2")
    assert len(list(loader)) == SIZE // 4 + 1


def test_processes_that_share_no_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    assert make_loader(folder, [], cache="memory")
    with pytest.raises(ConfigurationError, match="'spawn' share no memory; expected"):
        make_loader(folder, [], cache="memory", worker="process")


def test_from_params(folder: Path) -> None:
    params = {"type": "image", "cache": "memory", "max_cache_gb": 2}
    loader = DataLoader.from_params(Params(params), reader=ImageFolderReader(), data_path=folder)
    assert isinstance(loader, ImageDataLoader)
    assert (loader.cache, loader.max_cache_gb) == ("memory", 2)


def test_dct_scaling_has_no_effect(folder: Path) -> None:
    plain = make_loader(folder, [TrainLight(2, dct_scaling=False)], shuffle=True)
    cached = make_loader(folder, [TrainLight(2, dct_scaling=True)], shuffle=True, cache="memory")
    for _ in range(2):
        assert_same(list(cached), list(plain))


def test_the_images_may_go_through_load(folder: Path) -> None:
    steps = [Resize(6), CenterCrop(5), Normalize([0.5] * 3, [0.1] * 3)]
    loader = make_loader(folder, steps)
    instances: Any = loader.images.instances
    cached = CachedInstances(instances)
    for index in (0, 5, 0):
        found, expected = load(cached[index], 3), load(instances[index], 3)
        assert isinstance(found, Instance)
        assert isinstance(expected, Instance)
        assert torch.equal(found["image"].as_tensor({}), expected["image"].as_tensor({}))
