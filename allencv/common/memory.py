import ctypes
import math
import os
import weakref
from typing import Dict, Sequence, Tuple

import numpy as np
import torch

# The parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

USERS_OWN = (
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
)

_free: Dict[torch.dtype, Dict[Tuple[int, int], np.ndarray]] = {}
"""By type, and by size and `id`, the memory of tensors that nobody has any more."""


def reused_memory(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """
    A tensor on the CPU whose numbers are not set, in memory that an earlier one left. For batches:
    tens of megabytes, and as many at a time in each step.

    New memory is cleared by the kernel, page by page, which makes normalising a batch three times
    as slow. Left to glibc, small things settle where a batch has been, and a process grew by up to
    four batches that nobody used.

    What is free but too small for what is asked for is given up, so that a process keeps no more
    than it needed at once.

    # Parameters

    shape : `Sequence[int]`, required
    dtype : `torch.dtype`, required
    """
    size = math.prod(shape) * dtype.itemsize
    free = _free.setdefault(dtype, {})
    # The smallest first. Nothing is made while `sorted` reads the keys, as the garbage collector,
    # which then may run, adds to them; and another thread may take one first.
    for key in sorted(free):
        memory = free.pop(key, None)
        if memory is not None and len(memory) >= size:
            break
    else:
        # Not numpy's, which asks for huge pages: the first batch then takes twice as long.
        memory = torch.empty(size, dtype=torch.uint8).numpy()
    lent = memory[:size]
    # torch lets go of `lent` when the last tensor that looks into it is gone.
    key = (len(memory), id(memory))
    weakref.finalize(lent, free.__setitem__, key, memory).atexit = False
    return torch.from_numpy(lent).view(dtype).view(*shape)


def reuse_freed_memory(size: int) -> bool:
    """
    Lets this process keep the memory that it frees, up to `size` bytes, for what it allocates next.

    glibc gives large blocks back to the kernel as soon as they are freed. What a network computes
    of a batch is freed and allocated anew at each step, and the kernel then clears every page
    again. Without that, a network on a CPU is trained faster (benchmarks/training.py).

    Threads that begin after this share one pool, so that each reuses what any of them freed.

    Does nothing where the C library has no `mallopt` (musl, macOS, Windows), or where the user has
    set one of glibc's own variables (`GLIBC_TUNABLES`, `MALLOC_ARENA_MAX`, `MALLOC_MMAP_MAX_`,
    `MALLOC_TRIM_THRESHOLD_`). Returns whether memory is kept.
    """
    if any(name in os.environ for name in USERS_OWN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, size))
    return all(mallopt(parameter, value) for parameter, value in settings)
