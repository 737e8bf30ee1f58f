import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, List, Optional, Tuple

import numpy as np
import pytest
import torch
import torch.distributed as dist
from allennlp.data import Vocabulary
from PIL import Image

from allencv.data.data_loaders import ImageDataLoader
from allencv.data.data_loaders.cache_memory import RanksMemory, memory_of_ranks
from allencv.data.data_loaders.kept_images import KeptImages
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.fields import image_field
from allencv.data.transforms import RandomCrop
from tests.ranks import on_ranks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has memfd_create")

IMAGES = 100


def share_images() -> Tuple[List[int], bool]:
    """Put one image, and return those of all ranks."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    memory = memory_of_ranks()
    assert memory is not None
    kept = KeptImages(ranks, 1000 if rank == 0 else 5000, memory=memory)
    assert kept.put(rank, torch.full((1, 2, 3), rank, dtype=torch.uint8))
    dist.barrier()
    found = [kept.get(each) for each in range(ranks)]
    assert memory.is_in_use
    return [int(each.max()) for each in found if each is not None], len(kept._pixels[0]) > 2000


def test_ranks_share_images_and_the_first_sets_the_size() -> None:
    results = on_ranks(3, share_images)
    assert [images for images, _ in results] == [[0, 1, 2]] * 3
    assert len({is_large for _, is_large in results}) == 1


def no_memory() -> bool:
    if dist.get_rank() == 1:
        os.open = _refuse  # type: ignore[assignment]
    return memory_of_ranks() is None


def _refuse(*arguments: Any) -> int:
    raise PermissionError


def test_all_ranks_keep_their_own_images_if_one_cannot_share() -> None:
    assert on_ranks(2, no_memory) == [True, True]


def test_the_lock_is_for_threads_and_processes() -> None:
    memory = RanksMemory(os.memfd_create("test"))
    count = np.frombuffer(memory.mapped(8), np.int64)

    def add() -> None:
        for _ in range(500):
            with memory.lock:
                count[0] += 1

    def add_in_threads() -> None:
        threads = [threading.Thread(target=add) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=add_in_threads) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert count[0] == 2000


def test_a_killed_process_frees_the_lock() -> None:
    memory = RanksMemory(os.memfd_create("test"))

    def die() -> None:
        with memory.lock:
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(memory.mapped(10)) == 10  # needs the lock


def epochs(folder: Path, cache: Optional[str], worker: str) -> Tuple[List[torch.Tensor], int]:
    """Return the batches of three epochs of a rank, and how many images it has decoded."""
    decoded = multiprocessing.get_context("fork").Value("i", 0)
    read_image = image_field.read_image

    def counted(*arguments: Any) -> torch.Tensor:
        with decoded.get_lock():
            decoded.value += 1
        return read_image(*arguments)

    image_field.read_image = counted
    reader = ImageFolderReader(transforms=[RandomCrop(6)])
    loader = ImageDataLoader(
        reader, folder, 5, True, num_workers=2, worker=worker, seed=1, cache=cache
    )
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    loader.keep_pace()
    batches = [batch["image"].clone() for _ in range(3) for batch in loader]
    return batches, decoded.value


@pytest.mark.parametrize("worker", ["thread", "process"])
def test_ranks_have_the_batches_without_a_cache_and_decode_less(
    tmp_path: Path, worker: str
) -> None:
    noise = np.random.default_rng(0)
    for number in range(IMAGES):
        path = tmp_path / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    plain = on_ranks(2, epochs, tmp_path, None, worker)
    cached = on_ranks(2, epochs, tmp_path, "memory", worker)
    for (expected, _), (batches, _) in zip(plain, cached):
        assert len(batches) == len(expected) == 30
        assert all(map(torch.equal, batches, expected))
    assert sum(decoded for _, decoded in plain) == 3 * IMAGES
    # A sample of both, and images that both decode at the same time
    assert sum(decoded for _, decoded in cached) < 2 * IMAGES
