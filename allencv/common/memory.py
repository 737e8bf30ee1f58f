import ctypes
import math
import os
import weakref
from typing import Dict, Sequence, Tuple

import numpy as np
import torch

# The parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

KEPT_BYTES = 1 << 30
"""Enough memory for one step of a network."""
USERS_OWN = (
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
)

_free: Dict[torch.dtype, Dict[Tuple[int, int], np.ndarray]] = {}
"""The memory of freed tensors, by type, and by size and `id`."""


def reused_memory(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """
    Return an uninitialised tensor on the CPU, if possible in the memory of an earlier one. It is
    for batches: tens of megabytes, and the same number in each step.

    The kernel clears new memory page by page, which makes normalising a batch three times slower.
    With glibc's own reuse, small objects fragmented the memory, and a process grew by up to four
    unused batches.

    Free memory that is too small for the request is released, so that a process keeps no more than
    it needed at once.

    # Parameters

    shape : `Sequence[int]`, required
    dtype : `torch.dtype`, required
    """
    size = math.prod(shape) * dtype.itemsize
    free = _free.setdefault(dtype, {})
    # The smallest first. `sorted` must not allocate while it reads the keys, as the garbage
    # collector may add keys; and another thread may take one first.
    for key in sorted(free):
        memory = free.pop(key, None)
        if memory is not None and len(memory) >= size:
            break
    else:
        # Not numpy's memory, which uses huge pages: the first batch then takes twice as long.
        memory = torch.empty(size, dtype=torch.uint8).numpy()
    lent = memory[:size]
    # torch releases `lent` with the last tensor that uses it.
    key = (len(memory), id(memory))
    weakref.finalize(lent, free.__setitem__, key, memory).atexit = False
    return torch.from_numpy(lent).view(dtype).view(*shape)


def reuse_freed_memory(size: int) -> bool:
    """
    Let this process keep freed memory, up to `size` bytes, for its next allocations.

    By default, glibc returns large blocks to the kernel when they are freed. A network's
    activations are freed and allocated again at each step, and the kernel then clears every page.
    Training on a CPU is faster without this (benchmarks/training.py).

    Threads that begin after this share one pool, so that each reuses memory that any of them freed.

    Do nothing if the C library has no `mallopt` (musl, macOS, Windows), or if the user has set one
    of glibc's own variables (`GLIBC_TUNABLES`, `MALLOC_ARENA_MAX`, `MALLOC_MMAP_MAX_`,
    `MALLOC_TRIM_THRESHOLD_`). Return whether memory is kept.
    """
    if any(name in os.environ for name in USERS_OWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, size))
    return all(mallopt(parameter, value) for parameter, value in settings)
