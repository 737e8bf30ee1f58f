"""Pass batches from worker processes to this one in memory that they share and use again."""

import math
import mmap
import weakref
from contextlib import suppress
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from allencv.data.data_loaders.pinned_batches import mapped

CAPACITY = 2**33
"""The most bytes of a block. Pages that nobody has touched take no memory."""
SMALL_CAPACITY = 2**30
"""The most bytes of a block if addresses are limited (`ulimit -v`), or count as memory."""
ALIGNMENT = 64


class Placed(NamedTuple):
    """Where a tensor lies in its block."""

    start: int
    shape: Tuple[int, ...]
    stride: Tuple[int, ...]
    dtype: torch.dtype


class BlockWriter:
    """Puts the tensors of one batch into a block, one after the other, in a worker process."""

    def __init__(self, memory: torch.Tensor) -> None:
        self._memory = memory
        self._end = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Return an uninitialised tensor in the block, or outside if the block has no room."""
        start = self._end
        stop = start + math.prod(shape) * dtype.itemsize
        if stop > len(self._memory):
            return torch.empty(tuple(shape), dtype=dtype)
        self._end = -(-stop // ALIGNMENT) * ALIGNMENT
        return self._memory[start:stop].view(dtype).view(tuple(shape))

    def placed(self, value: Any) -> Any:
        """Return where a tensor lies; it is copied into the block unless it is there already."""
        if not isinstance(value, torch.Tensor):
            return value
        if not self._holds(value):
            # In its layout, but without the gaps that a view of a larger tensor has.
            stride = torch.empty_like(value, device="meta").stride()
            space = self.empty((value.numel(),), value.dtype)
            value = space.as_strided(value.shape, stride, space.storage_offset()).copy_(value)
        if not self._holds(value):
            return value
        start = value.storage_offset() * value.itemsize
        return Placed(start, tuple(value.shape), value.stride(), value.dtype)

    def _holds(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() == self._memory.data_ptr()


class SharedBlocks:
    """
    Blocks of memory that this process shares with those that it forks later, one for each batch in
    the making. A batch lies in its block until its last tensor is freed.

    The memory has no name and no file: it needs no room in `/dev/shm`, and the kernel frees it with
    the last process.

    # Parameters

    count : `int`, required
        The number of blocks.
    """

    def __init__(self, count: int) -> None:
        self._blocks = _blocks(count)
        self._free = list(range(count))

    def take(self) -> Optional[int]:
        """Return a free block, the one that was used last, or `None`."""
        try:
            return self._free.pop()
        except IndexError:
            return None

    def give_back(self, block: int) -> None:
        self._free.append(block)

    def writer(self, block: int) -> BlockWriter:
        return BlockWriter(torch.from_numpy(self._blocks[block]))

    def opened(self, block: int, batch: Any) -> Any:
        """
        Return a batch with its tensors in place of each `Placed`. The block is free again when none
        of them is used any more. If it is the last one, they are copied, so that any number of
        batches can be kept.
        """
        lent = self._blocks[block][:]
        # torch releases `lent` with the last tensor that uses it.
        weakref.finalize(lent, self._free.append, block).atexit = False
        is_last = not self._free
        memory = torch.from_numpy(lent)

        def tensor(value: Any) -> Any:
            if not isinstance(value, Placed):
                return value
            typed = memory[value.start :][: _span(value)].view(value.dtype)
            found = typed.as_strided(value.shape, value.stride)
            return found.clone() if is_last else found

        return mapped(batch, tensor)


def _blocks(count: int) -> List[np.ndarray]:
    import resource  # Windows has none

    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        with suppress(OSError):
            return [_block(CAPACITY) for _ in range(count)]
    return [_block(SMALL_CAPACITY) for _ in range(count)]


def _block(size: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)


def _span(placed: Placed) -> int:
    """Return how many bytes a tensor covers."""
    if 0 in placed.shape:
        return 0
    last = sum((size - 1) * step for size, step in zip(placed.shape, placed.stride))
    return (last + 1) * placed.dtype.itemsize
