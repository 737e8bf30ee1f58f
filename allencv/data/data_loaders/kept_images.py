import threading
from typing import Optional, Sequence

import numpy as np
import torch

from allencv.common.memory import reused_memory
from allencv.data.data_loaders.cache_memory import CacheMemory, OwnMemory
from allencv.data.fields.image_field import is_channels_last

ALIGNMENT = 64
DTYPES = (
    *(torch.uint8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
KIND, START = 0, 1
"""The first columns of the table of images; three more hold the shape."""
MISSING, BEING_COPIED, FIRST_KIND = 0, 1, 2
"""
The kinds of images that are not kept, and the first of those that are: plus twice the index in
`DTYPES`, plus 1 if the image is by pixels.
"""


class KeptImages:
    """
    Images of any size and type, in one block of memory. Threads and forked processes share it, so
    that each image is kept once; so do the ranks of a machine if they give their `memory`.

    # Parameters

    size : `int`, required
        The number of places for images.
    capacity : `int`, required
        The most bytes that the images may take. In `memory` that is in use, its size counts.
    device : `torch.device`, optional (default = `None`)
        Where `batch` makes its batches, from a copy of the images there. Only for threads.
    memory : `CacheMemory`, optional (default = memory of this process)
    """

    def __init__(
        self,
        size: int,
        capacity: int,
        device: Optional[torch.device] = None,
        memory: Optional[CacheMemory] = None,
    ) -> None:
        memory = memory or OwnMemory()
        # One row for each image; the last says where free memory starts. Pixels follow.
        rows = (size + 1) * 5
        begin = -(-rows * np.int64().itemsize // ALIGNMENT) * ALIGNMENT
        block = memory.mapped(begin + capacity)
        self._table = np.frombuffer(block, np.int64, rows).reshape(size + 1, 5)
        self._capacity = (len(block) - begin) // ALIGNMENT * ALIGNMENT
        pixels = torch.frombuffer(block, dtype=torch.uint8, offset=begin)[: self._capacity]
        self._pixels = [pixels.view(dtype) for dtype in DTYPES]
        self._lock = memory.lock
        self._is_seen = bytearray(size)
        self._device = device
        self._copied: Optional[torch.Tensor] = None
        self._copying = threading.Lock()

    def get(self, place: int) -> Optional[torch.Tensor]:
        """Return the image `(channels, height, width)` at a place, to read only, or `None`."""
        if not self._is_seen[place]:
            with self._lock:  # else another core may see the row before the pixels
                if self._table[place, KIND] < FIRST_KIND:
                    return None
            self._is_seen[place] = True
        kind, start, *shape = self._table[place].tolist()
        dtype, channels_last = divmod(kind - FIRST_KIND, 2)
        return self._view(dtype, start, shape, bool(channels_last))

    def put(self, place: int, image: torch.Tensor) -> bool:
        """Copy an image to a place. Return false if there is no memory for it, or for its type."""
        if image.dim() != 3 or image.dtype not in DTYPES:
            return False
        dtype, channels_last = DTYPES.index(image.dtype), is_channels_last(image)
        with self._lock:
            if self._table[place, KIND] != MISSING:
                return True  # another worker has it
            begin = int(self._table[-1, START])
            if begin + bytes_of(image) > self._capacity:
                return False
            self._table[-1, START] = begin + bytes_of(image)
            self._table[place, KIND] = BEING_COPIED
        start = begin // image.dtype.itemsize
        self._view(dtype, start, image.shape, channels_last).copy_(image)
        kind = FIRST_KIND + 2 * dtype + channels_last
        with self._lock:
            self._table[place] = kind, start, *image.shape
        return True

    def batch(self, places: Sequence[int]) -> Optional[torch.Tensor]:
        """
        Return a copy of the images at some places, as a batch `(batch, channels, height, width)` in
        their layout. Return `None` unless all are kept and alike in shape, type and layout. The
        batch is on the device if the images have been copied there.
        """
        with self._lock:
            table = self._table[places]
        alike = np.delete(table, START, axis=1)
        kind, channels, height, width = alike[0].tolist()
        if kind < FIRST_KIND or (alike != alike[0]).any():
            return None
        dtype, by_pixels = DTYPES[(kind - FIRST_KIND) // 2], (kind - FIRST_KIND) % 2 == 1
        rows = (height, width, channels) if by_pixels else (channels, height, width)
        size = channels * height * width * dtype.itemsize
        starts = table[:, START] * dtype.itemsize
        pixels = self._pixels_up_to(int(starts.max()) + size)
        # Each image begins at a multiple of ALIGNMENT. Those that begin anywhere, as rows:
        number = (len(pixels) - size) // ALIGNMENT + 1
        images = pixels.as_strided((number, size), (ALIGNMENT, 1))
        found = torch.from_numpy(starts // ALIGNMENT).to(pixels.device, non_blocking=True)
        batch = _empty((len(places), *rows), dtype, pixels.device)
        torch.index_select(images, 0, found, out=batch.view(torch.uint8).view(len(places), size))
        return batch.permute(0, 3, 1, 2) if by_pixels else batch

    def _pixels_up_to(self, end: int) -> torch.Tensor:
        """Return the memory of the images: on the device, if it is there up to the byte `end`."""
        if self._device is None:
            return self._pixels[0]
        with self._copying:
            if self._copied is None or end > len(self._copied):
                self._copy()
            copied = self._copied
        return self._pixels[0] if copied is None or end > len(copied) else copied

    def _copy(self) -> None:
        """Copy what is kept to the device, unless most of it is there and more will come."""
        copied = 0 if self._copied is None else len(self._copied)
        with self._lock:
            kinds, used = self._table[:-1, KIND], int(self._table[-1, START])
            is_changing, is_complete = (kinds == BEING_COPIED).any(), (kinds >= FIRST_KIND).all()
        if not is_changing and (is_complete or used >= 2 * copied):
            self._copied = None  # frees its memory for the new copy
            self._copied = self._pixels[0][:used].to(self._device, copy=True)

    def _view(
        self, dtype: int, start: int, shape: Sequence[int], channels_last: bool
    ) -> torch.Tensor:
        channels, height, width = shape
        strides = (1, width * channels, channels) if channels_last else (height * width, width, 1)
        return self._pixels[dtype].as_strided((channels, height, width), strides, start)


def _empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return reused_memory(shape, dtype)
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def bytes_of(image: torch.Tensor) -> int:
    """Return how much of the memory for images an image takes."""
    return -(-image.nbytes // ALIGNMENT) * ALIGNMENT
