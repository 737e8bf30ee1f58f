import ctypes
import os

# The parameters of glibc's mallopt, from its malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

USERS_OWN = (
    "GLIBC_TUNABLES",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
)


_kept = 0


def reuse_freed_memory(size: int) -> bool:
    """
    Lets this process keep the memory that it frees, up to `size` bytes, for what it allocates next.
    A smaller size than in an earlier call changes nothing.

    glibc gives large blocks back to the kernel as soon as they are freed. A batch of images, and
    what a network computes of it, is freed and allocated anew at each step, and the kernel then
    clears every page again. Without that, a batch is normalised three times as fast, and a network
    on a CPU is trained faster (benchmarks/training.py).

    Threads that begin after this share one pool, so that each reuses what any of them freed. A pool
    for each, as glibc makes them, took 100 MB more with two workers, and was not faster.

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
    global _kept
    _kept = max(_kept, size)
    settings = ((M_MMAP_MAX, 0), (M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, _kept))
    return all(mallopt(parameter, value) for parameter, value in settings)
