import gc
import multiprocessing
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Iterator, List, Set

import numpy as np
import pytest
import torch
from allennlp.data import Instance, Vocabulary
from allennlp.data.fields import LabelField

from allencv.data.data_loaders.process_workers import ProcessWorkers
from allencv.data.data_loaders.workers import (
    BatchJob,
    NoWorkers,
    ThreadWorkers,
    collate,
    load,
)
from allencv.data.fields import ImageField

PREFETCH = 3
IMAGES_OF_A_BATCH = 4


def instances(transform: Any = None, count: int = 40) -> List[Instance]:
    """Image `i` is all `i % 256`."""
    return [
        Instance({"image": ImageField(np.full((2, 2, 3), number % 256, np.uint8), transform)})
        for number in range(count)
    ]


def jobs(count: int = 40) -> List[BatchJob]:
    numbers = range(count)
    size = IMAGES_OF_A_BATCH
    return [
        [(number, number) for number in numbers[start : start + size]]
        for start in range(0, count, size)
    ]


def seen(batch: Any) -> List[int]:
    return batch.batch["image"][:, 0, 0, 0].int().tolist()


def stays_at(number: int, count: Callable[[], int]) -> bool:
    """Whether a count comes to a number, which may take seconds on a busy machine, and stays."""
    for _ in range(1000):
        if count() >= number:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    return count() == number


class Counting:
    """A transform that counts, and takes a little while."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.images: List[int] = []
        self.threads: Set[int] = set()
        self.seconds = seconds

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        self.images.append(int(image[0, 0, 0]))
        self.threads.add(threading.get_ident())
        return image


# One image and one batch.


def test_load_draws_by_the_seed() -> None:
    (instance,) = instances(lambda image: torch.rand(3, 2, 2), 1)
    first, again, other = (load(instance, seed) for seed in (1, 1, 2))
    assert first["image"].as_tensor({}).equal(again["image"].as_tensor({}))
    assert not first["image"].as_tensor({}).equal(other["image"].as_tensor({}))
    # the numbers are those of a generator with this seed
    expected = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(1))
    assert first["image"].as_tensor({}).equal(expected)


def test_load_gives_the_reason_where_there_is_no_image(tmp_path: Path) -> None:
    loaded = load(Instance({"image": ImageField(tmp_path / "a.jpg")}), 0)
    assert loaded == f"{tmp_path}/a.jpg: No such file or directory"


def test_collate() -> None:
    fields = {"image": ImageField(np.zeros((2, 2, 3), np.uint8)), "label": LabelField("cat")}
    instance = Instance(fields)
    instance.index_fields(Vocabulary.from_instances([instance]))
    batch, places, errors = collate([load(instance, 0), "a.jpg: bad", load(instance, 0)])
    assert places == [0, 2]
    assert batch["image"].shape == (2, 3, 2, 2)
    assert batch["label"].tolist() == [0, 0]
    assert errors == ["a.jpg: bad"]
    assert collate(["a.jpg: bad"]) == ({}, [], ["a.jpg: bad"])


# Batches, in order.


@pytest.mark.parametrize("num_images", [1, 4, 5, 40])
def test_all_make_the_same_batches(num_images: int) -> None:
    data = instances(count=num_images)
    for workers in (
        NoWorkers(data),
        ThreadWorkers(data, 1, 1),
        ThreadWorkers(data, 5, PREFETCH),
        ProcessWorkers(data, 2, PREFETCH),
    ):
        for _ in range(2):
            batches = [seen(batch) for batch in workers(iter(jobs(num_images)))]
            assert batches == [[number for number, _ in job] for job in jobs(num_images)]
        assert list(workers([])) == []


@pytest.mark.parametrize("num_workers", [1, 3])
def test_threads_make_no_more_batches_ahead_than_allowed(num_workers: int) -> None:
    transform = Counting(0)
    asked = []

    def counted_jobs() -> Iterator[BatchJob]:
        for job in jobs():
            asked.append(job)
            yield job

    batches = ThreadWorkers(instances(transform), num_workers, PREFETCH)(counted_jobs())
    for number in range(len(jobs())):
        next(batches)
        ahead = min(number + 1 + PREFETCH, len(jobs()))
        assert len(asked) == ahead
        assert stays_at(ahead * IMAGES_OF_A_BATCH, lambda: len(transform.images))


def test_threads_stop_when_nobody_listens_any_more() -> None:
    transform = Counting()
    workers = ThreadWorkers(instances(transform, 4000), 2, 500)
    for batch in workers(jobs(4000)):
        assert seen(batch) == [0, 1, 2, 3]
        break
    time.sleep(0.1)
    count = len(transform.images)
    assert count < 200
    assert stays_at(count, lambda: len(transform.images))
    transform.seconds = 0
    assert [number for batch in workers(jobs(40)) for number in seen(batch)] == list(range(40))


@pytest.mark.parametrize("make", [ThreadWorkers, ProcessWorkers])
def test_a_break_leaves_nothing_behind(make: Any) -> None:
    workers = make(instances(), 2, PREFETCH)
    for _ in range(3):
        for batch in workers(jobs()):
            assert seen(batch) == [0, 1, 2, 3]
            break
    assert [number for batch in workers(jobs()) for number in seen(batch)] == list(range(40))


@pytest.mark.parametrize("make", [ThreadWorkers, ProcessWorkers])
def test_workers_serve_several_iterations_at_once(make: Any) -> None:
    workers = make(instances(), 2, PREFETCH)
    pairs = [(seen(first), seen(second)) for first, second in zip(workers(jobs()), workers(jobs()))]
    assert [first for first, _ in pairs] == [[number for number, _ in job] for job in jobs()]
    assert all(first == second for first, second in pairs)


def test_the_same_threads_serve_each_epoch() -> None:
    transform = Counting()
    workers = ThreadWorkers(instances(transform), 3, PREFETCH)
    for _ in range(3):
        list(workers(jobs()))
    assert len(transform.threads) == 3
    assert threading.get_ident() not in transform.threads


def test_the_same_processes_serve_each_epoch() -> None:
    def process_number(image: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, 1), os.getpid(), dtype=torch.float64)

    workers = ProcessWorkers(instances(process_number), 2, PREFETCH)
    processes = {number for _ in range(3) for batch in workers(jobs()) for number in seen(batch)}
    assert len(processes) <= 2  # one of them may be quick enough to do everything
    assert os.getpid() not in processes


# Memory.


def test_nothing_decoded_is_kept() -> None:
    alive: List[weakref.ref[torch.Tensor]] = []

    def remember(image: torch.Tensor) -> torch.Tensor:
        image = image.clone()
        alive.append(weakref.ref(image))
        return image

    def count() -> int:
        return sum(reference() is not None for reference in alive)

    gc.disable()  # nor does it wait for the garbage collector
    try:
        workers = ThreadWorkers(instances(remember, 400), 2, PREFETCH)
        for batch in workers(jobs(400)):
            alive.append(weakref.ref(batch.batch["image"]))
            assert count() <= (PREFETCH + 2) * (IMAGES_OF_A_BATCH + 1)
        del batch
        assert len(alive) == 500
        assert count() == 0
    finally:
        gc.enable()


def test_threads_end_with_their_user() -> None:
    before = set(threading.enumerate())
    workers = ThreadWorkers(instances(), 3, PREFETCH)
    list(workers(jobs()))
    started = {thread for thread in threading.enumerate() if thread not in before}
    assert len([thread for thread in started if "image-loader" in thread.name]) == 3
    del workers
    assert stays_at(0, lambda: -sum(thread.is_alive() for thread in started))


# torch's own threads.


def test_each_thread_computes_alone_and_all_others_as_before() -> None:
    def number_of_threads(image: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, 1), float(torch.get_num_threads()))

    def in_another_thread() -> int:
        found: List[int] = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return found[0]

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        workers = ThreadWorkers(instances(number_of_threads), 2, PREFETCH)
        assert {number for batch in workers(jobs()) for number in seen(batch)} == {1}
        assert torch.get_num_threads() == 3
        assert stays_at(3, in_another_thread)
    finally:
        torch.set_num_threads(before)


# The end.


@pytest.mark.parametrize("make", [ThreadWorkers, ProcessWorkers])
def test_workers_that_the_garbage_collector_finds_end_at_once(make: Any) -> None:
    def fail(image: torch.Tensor) -> torch.Tensor:
        raise MemoryError("mine")

    before = {*threading.enumerate(), *multiprocessing.active_children()}
    workers = make(instances(fail), 2, PREFETCH)
    with pytest.raises(MemoryError):  # the error and its traceback refer to each other
        list(workers(jobs()))
    started = {*threading.enumerate(), *multiprocessing.active_children()} - before
    assert started
    del workers
    since = time.monotonic()
    while any(each.is_alive() for each in started):
        gc.collect()
        # torch's loader would wait five seconds for each of its processes
        assert time.monotonic() - since < 8


HALF_CONSUMED = """
import os, time
import numpy as np
from allennlp.data import Instance
from allencv.data.data_loaders.process_workers import ProcessWorkers
from allencv.data.data_loaders.workers import ThreadWorkers
from allencv.data.fields import ImageField

def slow(image):
    time.sleep(0.01)
    os.write(1, b".")
    return image

field = ImageField(np.zeros((2, 2, 3), np.uint8), slow)
jobs = [[(0, 0)] * 4] * 1000
processes = ProcessWorkers([Instance({"image": field})], 2, 4)(jobs)
next(processes)  # first: one that is forked while threads decode may wait for a lock of theirs
threads = ThreadWorkers([Instance({"image": field})], 2, 4)(jobs)
next(threads)
"""


def test_a_program_ends_with_batches_unused(run: Any) -> None:
    result = run("python", "-c", HALF_CONSUMED)
    batches_of_threads, batches_of_processes = 1 + 4, 1 + 4 + 2
    assert result.stdout.count(".") <= (batches_of_threads + batches_of_processes) * 4
    assert result.stderr == ""
