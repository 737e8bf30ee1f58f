"""Compute the parts of a batch at the same time, each in one thread."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Callable

import numpy as np
import torch

Compute = Callable[[np.ndarray], np.ndarray]


def compute_in_parts(compute: Compute, images: np.ndarray) -> np.ndarray:
    """
    Return `compute(images)`, of parts of a batch that threads compute on a CPU.

    By default, torch divides each layer among its threads, which wait for each other after the
    layer. They do not sleep meanwhile, and so take the cores from threads that decode images, and
    from other processes. A thread that computes all layers of some images waits once.

    # Parameters

    compute : `Callable[[np.ndarray], np.ndarray]`, required
        Computes each image for itself, and may run in several threads.
    images : `np.ndarray`, required
        `(batch, ...)`, not empty.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return compute(images)
    parts = np.array_split(images, min(threads, len(images)))
    return np.concatenate(list(_executor(threads).map(compute, parts)))


def _compute_alone() -> None:
    torch.get_num_threads()  # without this, the first layer sets the number of the whole process
    torch.set_num_threads(1)


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Return threads in each of which torch computes alone."""
    executor = ThreadPoolExecutor(threads, "part of a batch", _compute_alone)
    all_started = threading.Barrier(threads)
    for future in [executor.submit(all_started.wait) for _ in range(threads)]:
        future.result()
    # These threads keep their number, but libraries of torch may have one for the whole process.
    torch.set_num_threads(threads)
    return executor


os.register_at_fork(after_in_child=_executor.cache_clear)  # which has none of the threads
