import errno
import gc
import multiprocessing
import os
import random
import threading
import time
from typing import Any, Callable, List

import numpy as np
import psutil
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance
from allennlp.data.fields import MetadataField

from allencv.data.data_loaders import shared_batches
from allencv.data.data_loaders.process_workers import (
    ProcessWorkers,
    WorkerEnded,
    processes_share_memory,
)
from allencv.data.fields import ImageField

pytestmark = pytest.mark.skipif(
    not processes_share_memory(), reason="needs forked processes, which need no pickled transforms"
)


def workers(transform: Any, num_workers: int = 1) -> ProcessWorkers:
    field = ImageField(np.zeros((2, 2, 3), np.uint8), transform)
    return ProcessWorkers([Instance({"image": field})], num_workers, 1)


def values(batch: Any) -> List[float]:
    return batch.batch["image"].flatten().tolist()


def test_a_process_computes_with_one_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.randn(300, 300) @ torch.randn(300, 300)  # OpenMP has threads now
        count = workers(lambda image: torch.full((1, 1, 1), float(torch.get_num_threads())))
        assert [values(batch) for batch in count([[(0, 0)]] * 2)] == [[1], [1]]
    finally:
        torch.set_num_threads(before)


def test_batches_of_any_size_and_number_can_be_kept() -> None:
    def draw(image: torch.Tensor) -> torch.Tensor:
        return torch.rand(3, 4, 4 + int(torch.randint(3, ())))

    jobs = [[(0, seed), (0, seed + 100)] for seed in range(20)]
    kept = list(workers(draw, 2)(jobs))
    widths = set()
    for job, made in zip(jobs, kept):
        for image, (_, seed) in zip(made.batch["image"], job):
            generator = torch.Generator().manual_seed(seed)
            width = 4 + int(torch.randint(3, (), generator=generator))
            expected = torch.rand(3, 4, width, generator=generator)
            assert image[:, :, :width].equal(expected)
            assert not image[:, :, width:].any()  # padding
            widths.add(image.shape[2])
    assert len(widths) > 1


def test_without_memory_to_share_batches_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(start: int, size: int) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("allencv.data.data_loaders.shared_batches.mmap.mmap", fail)
    made = workers(lambda image: torch.full((3, 1, 2), 7.0))([[(0, 0)] * 2] * 3)
    assert [batch.batch["image"].tolist() for batch in made] == [[[[[7.0] * 2]] * 3] * 2] * 3


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux does")
def test_kept_batches_take_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither tensors that a block cannot hold, nor those in metadata: `/dev/shm` may be full."""
    monkeypatch.setattr(shared_batches, "CAPACITY", 4096)
    field = ImageField(np.zeros((2, 2, 3), np.uint8), lambda image: torch.rand(3, 50, 50))
    instance = Instance({"image": field, "metadata": MetadataField({"box": torch.arange(4)})})
    made = ProcessWorkers([instance], 1, 1)
    next(iter(made([[(0, 0)]])))
    gc.collect()  # what earlier tests left would close its files in between
    before = open_files()
    kept = list(made([[(0, seed)] for seed in range(20)]))
    assert open_files() <= before
    for seed, (batch, *_) in enumerate(kept):
        generator = torch.Generator().manual_seed(seed)
        assert batch["image"].equal(torch.rand(1, 3, 50, 50, generator=generator))
        assert batch["metadata"][0]["box"].tolist() == [0, 1, 2, 3]


def test_a_batch_that_cannot_be_pickled_is_an_error() -> None:
    instance = Instance({"metadata": MetadataField(threading.Lock())})
    made = ProcessWorkers([instance], 1, 1)
    for _ in range(2):  # the workers go on
        with pytest.raises(ConfigurationError, match="lock.* object.*expected .*thread"):
            list(made([[(0, 0)]]))


class OfTwo(Exception):
    """Cannot be unpickled: it has another number of arguments than `args`."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


class Failing:
    def __getitem__(self, key: Any) -> Any:
        raise OfTwo("this", "that") if key else KeyError("mine")


def test_any_error_arrives() -> None:
    made = ProcessWorkers(Failing(), 1, 1)
    for _ in range(2):  # the workers go on
        with pytest.raises(RuntimeError, match="^OfTwo: this and that$"):
            list(made([[(1, 0)]]))
        with pytest.raises(KeyError, match="mine"):
            list(made([[(0, 0)]]))


@pytest.mark.parametrize(
    "draw",
    [
        random.random,
        np.random.random,
        lambda: torch.nn.functional.dropout(torch.ones(64)).bool().tolist(),
    ],
    ids=["random", "numpy", "torch.nn.functional"],
)
def test_processes_draw_different_numbers_from_global_generators(draw: Callable[[], Any]) -> None:
    def transform(image: torch.Tensor) -> torch.Tensor:
        return torch.tensor(draw(), dtype=torch.float64).view(1, 1, -1)

    jobs = [[(0, seed), (0, -seed - 1)] for seed in range(10)]
    one, two = (
        [
            image.flatten().tolist()
            for batch in workers(transform, n)(jobs)
            for image in batch[0]["image"]
        ]
        for n in (1, 2)
    )
    assert one == two
    assert len({tuple(each) for each in one}) == len(one) == 20


def test_a_process_that_dies_is_an_error() -> None:
    made = workers(lambda image: os._exit(9))
    for _ in range(2):
        with pytest.raises(WorkerEnded, match="a worker process of the data loader has ended"):
            list(made([[(0, 0)]] * 3))


def test_a_process_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fork, started = os.fork, []

    def fork_once() -> int:
        if started:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        process = fork()
        started.append(process)
        return process

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(os, "fork", fork_once)
    message = r"cannot be started \(Resource temporarily unavailable\); expected a smaller"
    with pytest.raises(WorkerEnded, match=message):
        workers(lambda image: image, 3)([[(0, 0)]])
    for process in set(multiprocessing.active_children()) - before:
        process.join(20)
        assert not process.is_alive()


def test_a_process_with_workers_of_its_own_ends() -> None:
    """Python ends those of the main process in another way, before it runs finalizers."""
    kept: List[Any] = []

    def use_workers() -> None:
        made = workers(lambda image: image.float(), 2)([[(0, 0)]] * 6)
        kept.extend((made, next(made)))

    process = multiprocessing.Process(target=use_workers)
    process.start()
    process.join(30)
    hangs = process.is_alive()
    for each in psutil.Process(process.pid).children() if hangs else []:
        each.kill()
    process.join()
    assert not hangs
    assert process.exitcode == 0


def test_processes_end_with_their_parent() -> None:
    connection, of_parent = multiprocessing.Pipe()

    def parent() -> None:
        number = workers(lambda image: torch.full((1, 1, 1), os.getpid(), dtype=torch.float64))
        of_parent.send([values(batch) for batch in number([[(0, 0)]])])
        time.sleep(600)

    process = multiprocessing.Process(target=parent)
    process.start()
    ((worker,),) = connection.recv()
    process.kill()
    process.join()
    for _ in range(1000):
        if not psutil.pid_exists(int(worker)):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the worker still runs")
