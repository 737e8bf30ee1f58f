import mmap
import multiprocessing
import threading
from typing import Optional, Sequence

import numpy as np
import torch

from allencv.common.memory import reused_memory
from allencv.data.fields.image_field import is_channels_last

ALIGNMENT = 64
DTYPES = (
    *(torch.uint8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
)
KIND, START = 0, 1
"""The first columns of the table of images; three more hold the shape."""
MISSING, BEING_COPIED = -2, -1
"""The kinds of images that are not kept. Other kinds: twice the index in `DTYPES`, plus layout."""


class KeptImages:
    """
    Images of any size and type, in one block of memory. Threads and forked processes share it, so
    that each image is kept once. Untouched pages of the block take no memory.

    # Parameters

    size : `int`, required
        The number of places for images.
    capacity : `int`, required
        The most bytes that the images may take.
    device : `torch.device`, optional (default = `None`)
        Where `batch` makes its batches, from a copy of the images there. Only for threads.
    """

    def __init__(self, size: int, capacity: int, device: Optional[torch.device] = None) -> None:
        pixels = torch.frombuffer(mmap.mmap(-1, capacity), dtype=torch.uint8)
        whole = capacity // ALIGNMENT * ALIGNMENT
        self._pixels = [pixels[:whole].view(dtype) for dtype in DTYPES]
        table = mmap.mmap(-1, (size + 1) * 5 * np.int64().itemsize)
        self._table = np.frombuffer(table, np.int64).reshape(size + 1, 5)
        self._table[:-1, KIND] = MISSING
        self._table[-1, START] = 0  # the last row says where free memory starts
        self._capacity = whole
        self._lock = multiprocessing.Lock()
        self._is_seen = bytearray(size)
        self._device = device
        self._copied: Optional[torch.Tensor] = None
        self._copying = threading.Lock()

    def get(self, place: int) -> Optional[torch.Tensor]:
        """Return the image `(channels, height, width)` at a place, to read only, or `None`."""
        if not self._is_seen[place]:
            with self._lock:  # else another core may see the row before the pixels
                if self._table[place, KIND] < 0:
                    return None
            self._is_seen[place] = True
        kind, start, *shape = self._table[place].tolist()
        return self._view(kind // 2, start, shape, bool(kind % 2))

    def put(self, place: int, image: torch.Tensor) -> bool:
        """Copy an image to a place. Return false if there is no memory for it, or for its type."""
        if image.dim() != 3 or image.dtype not in DTYPES:
            return False
        kind, channels_last = DTYPES.index(image.dtype), is_channels_last(image)
        with self._lock:
            if self._table[place, KIND] != MISSING:
                return True  # another worker has it
            begin = int(self._table[-1, START])
            if begin + bytes_of(image) > self._capacity:
                return False
            self._table[-1, START] = begin + bytes_of(image)
            self._table[place, KIND] = BEING_COPIED
        start = begin // image.dtype.itemsize
        self._view(kind, start, image.shape, channels_last).copy_(image)
        with self._lock:
            self._table[place] = 2 * kind + channels_last, start, *image.shape
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
        if kind < 0 or (alike != alike[0]).any():
            return None
        dtype = DTYPES[kind // 2]
        by_pixels = bool(kind % 2)
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
            is_changing, is_complete = (kinds == BEING_COPIED).any(), (kinds >= 0).all()
        if not is_changing and (is_complete or used >= 2 * copied):
            self._copied = None  # frees its memory for the new copy
            self._copied = self._pixels[0][:used].to(self._device, copy=True)

    def _view(
        self, kind: int, start: int, shape: Sequence[int], channels_last: bool
    ) -> torch.Tensor:
        channels, height, width = shape
        strides = (1, width * channels, channels) if channels_last else (height * width, width, 1)
        return self._pixels[kind].as_strided((channels, height, width), strides, start)


def _empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if device.type == "cpu":
        return reused_memory(shape, dtype)
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def bytes_of(image: torch.Tensor) -> int:
    """Return how much of the memory for images an image takes."""
    return -(-image.nbytes // ALIGNMENT) * ALIGNMENT
