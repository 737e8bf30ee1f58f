import errno
import multiprocessing
import os
import time
from typing import Any, List

import numpy as np
import psutil
import pytest
import torch
from allennlp.data import Instance

from allencv.data.data_loaders.process_workers import ProcessWorkers, processes_share_memory
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


def test_a_process_that_dies_is_an_error() -> None:
    batches = workers(lambda image: os._exit(9))([[(0, 0)]] * 3)
    with pytest.raises(RuntimeError, match="a worker process of the data loader has ended"):
        list(batches)


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
