"""The memory for `cache` of the "image" data loader."""

import contextlib
import mmap
import multiprocessing
import os
import threading
import weakref
from pathlib import Path
from typing import Any, ContextManager, List, Optional, Protocol, Tuple

import torch.distributed as dist


class CacheMemory(Protocol):
    """Memory that several threads and processes use."""

    lock: ContextManager[Any]
    """What a thread holds while it reads or changes shared numbers. It cannot be nested."""

    def mapped(self, size: int) -> mmap.mmap:
        """
        Return the memory, zeros at first. The first process to ask sets its size in bytes; it is
        the same for all. Untouched pages take no memory.
        """


class OwnMemory:
    """Memory of this process and of those that it forks later."""

    def __init__(self) -> None:
        self.lock: ContextManager[Any] = multiprocessing.Lock()

    def mapped(self, size: int) -> mmap.mmap:
        return mmap.mmap(-1, size)


class RanksMemory:
    """
    Memory that the ranks of a machine share: see `memory_of_ranks`. It has no name, and the kernel
    frees it with the last process, however that ends. It does not count against `/dev/shm`.

    # Parameters

    file : `int`, required
        The descriptor of an empty file in memory, which all ranks have opened.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self.lock: ContextManager[Any] = _FileLock(file)

    def mapped(self, size: int) -> mmap.mmap:
        with self.lock:
            if not self.is_in_use:
                os.ftruncate(self._file, size)
            return mmap.mmap(self._file, os.fstat(self._file).st_size)

    @property
    def is_in_use(self) -> bool:
        """Whether a rank has set the size."""
        return os.fstat(self._file).st_size > 0


class _FileLock:
    """A lock for the threads of all processes. The kernel frees that of a process that ends."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._of_threads = threading.Lock()  # the kernel's lock is for processes
        weakref.finalize(self, os.close, file).atexit = False

    def __enter__(self) -> None:
        import fcntl  # Windows has none

        self._of_threads.acquire()
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._of_threads.release()
            raise

    def __exit__(self, *error: object) -> None:
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN)
        self._of_threads.release()


def memory_of_ranks() -> Optional[RanksMemory]:
    """
    Return memory that the ranks of this machine share, or `None` if they cannot share any: on other
    systems than Linux, or if a rank may not open the files of another. All ranks of the process
    group must call this.
    """
    own = os.memfd_create("allencv-cache") if hasattr(os, "memfd_create") else None
    files: List[Tuple[str, int, Optional[int]]] = [("", 0, None)] * dist.get_world_size()
    dist.all_gather_object(files, (_processes_seen_here(), os.getpid(), own))
    here = files[dist.get_rank()][0]
    _, process, number = next(each for each in files if each[0] == here)
    opened: Optional[int] = None
    if number is not None:
        # The file of the first rank of this machine
        with contextlib.suppress(OSError):
            opened = os.open(f"/proc/{process}/fd/{number}", os.O_RDWR)
    are_opened = [False] * dist.get_world_size()
    dist.all_gather_object(are_opened, opened is not None)
    if own is not None:
        os.close(own)
    if opened is not None and all(are_opened):
        return RanksMemory(opened)
    if opened is not None:
        os.close(opened)
    return None


def _processes_seen_here() -> str:
    """Return what only processes have in common that see each other: machine and container."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return f"{machine.strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
