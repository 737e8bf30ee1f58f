"""
The files of a `FeatureStore`. A segment is a pair of files that only grow: `{name}.f16` holds the
features, and `{name}.index` an `ENTRY` for each of them. A writer locks a segment, and writes the
features before their entries. So a reader needs no lock: what has an entry is complete.
"""

import errno
import logging
import os
import uuid
import zlib
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from allencv.runtime.file_locks import lock

logger = logging.getLogger(__name__)

FEATURES, INDEX = ".f16", ".index"
ADDRESS_BYTES = 16
ENTRY = np.dtype([("address", f"V{ADDRESS_BYTES}"), ("checksum", "<u4")])
"""The checksum is of the address and the features."""


def checksum(address: bytes, features: np.ndarray) -> int:
    return zlib.crc32(features.reshape(-1).view(np.uint8).data, zlib.crc32(address))


class Segment:
    """
    The features in a pair of files, to read. They stay readable in this process if another one
    removes the files.

    # Parameters

    path : the file of the features.
    shape : the shape of the features of one image.
    """

    def __init__(self, path: Path, shape: Tuple[int, ...]) -> None:
        self.path = path
        self.features = np.empty((0, *shape), np.float16)
        self.is_used = False
        """Whether this process has found or written features here."""
        self.is_dropped = False
        self._entries = np.empty(0, ENTRY)
        self._is_checked = np.empty(0, bool)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self) -> List[bytes]:
        """Return the addresses that were added since the last call."""
        if self.is_dropped:
            return []
        old, shape = len(self._entries), self.features.shape[1:]
        try:
            count = min(
                self.path.with_suffix(INDEX).stat().st_size // ENTRY.itemsize,
                self.path.stat().st_size // record_bytes(shape),
            )
            if count <= old:
                return []
            with open(self.path.with_suffix(INDEX), "rb") as file:
                file.seek(old * ENTRY.itemsize)
                read = file.read((count - old) * ENTRY.itemsize)
            mapped = np.memmap(self.path, np.float16, "r", shape=(count, *shape))
        except (FileNotFoundError, PermissionError):  # removed, or of another user
            return []
        self.features = mapped.view(np.ndarray)  # which is quicker to index
        added = np.frombuffer(read, ENTRY)
        self._entries = np.concatenate([self._entries, added])
        self._is_checked = np.concatenate([self._is_checked, np.zeros(len(added), bool)])
        return added["address"].tolist()

    def are_intact(self, places: np.ndarray) -> bool:
        """Compare the features at these places with their checksums, once in this process."""
        unchecked = np.unique(places[~self._is_checked[places]])
        addresses = self._entries["address"][unchecked].tolist()
        expected = self._entries["checksum"][unchecked].tolist()
        records = (self.features[place] for place in unchecked.tolist())
        if list(map(checksum, addresses, records)) != expected:
            return False
        self._is_checked[unchecked] = True
        return True

    def drop(self) -> None:
        """Remove the files, if that is possible, and load nothing more from them."""
        self.is_dropped = True
        remove(self.path)


class SegmentWriter:
    """
    Appends to a segment, which no other writer may do until this one is closed.

    # Parameters

    capacity : how many features the segment may hold.

    # Raises

    `BlockingIOError` if another writer has the segment, or might have it; `OSError`.
    """

    def __init__(self, path: Path, shape: Tuple[int, ...], capacity: int) -> None:
        self.path = path
        self._files: List[FileIO] = []  # unbuffered, and closed with this object
        try:
            for name in (path, path.with_suffix(INDEX)):
                self._files.append(FileIO(name, "a+"))
            reason = lock(self._files[0].fileno())
            sizes = [os.fstat(file.fileno()).st_size for file in self._files]
            if reason is not None and any(sizes):
                # Without locks, as on some network drives, each writer has segments of its own.
                raise BlockingIOError(errno.EWOULDBLOCK, reason, str(path))
            units = (record_bytes(shape), ENTRY.itemsize)
            count = min(size // unit for size, unit in zip(sizes, units))
            if sizes != [count * unit for unit in units]:
                logger.warning("'%s' ends in an unfinished record, which is dropped", path)
                for file, unit in zip(self._files, units):
                    file.truncate(count * unit)
        except BaseException:
            self.close()
            raise
        self.room = capacity - count

    def write(self, addresses: Sequence[bytes], features: np.ndarray) -> None:
        """Write the features of at most `room` images."""
        entries = np.empty(len(addresses), ENTRY)
        entries["address"] = np.frombuffer(b"".join(addresses), f"V{ADDRESS_BYTES}")
        entries["checksum"] = [checksum(*each) for each in zip(addresses, features)]
        for file, content in zip(self._files, (features, entries)):
            _write_all(file, content.tobytes())
        self.room -= len(addresses)

    def is_removed(self) -> bool:
        """Return whether somebody has removed the files, so that nobody finds what is written."""
        return not (self.path.exists() and self.path.with_suffix(INDEX).exists())

    def close(self) -> None:
        for file in self._files:
            file.close()


def record_bytes(shape: Tuple[int, ...]) -> int:
    return int(np.prod(shape)) * np.dtype(np.float16).itemsize


def name_prefix(shape: Tuple[int, ...]) -> str:
    """Return how the names of the segments with features of this shape begin."""
    return "x".join(map(str, shape)) + "-"


def new_segment(folder: Path, shape: Tuple[int, ...]) -> Path:
    return folder / f"{name_prefix(shape)}{uuid.uuid4().hex}{FEATURES}"


def remove(path: Path) -> None:
    """Remove the files of a segment. An error is ignored: a system may keep files that are open."""
    for file in (path.with_suffix(INDEX), path):
        with suppress(OSError):
            file.unlink()


def segments_in(folder: Path, shape: Tuple[int, ...]) -> Iterator[Path]:
    """Yield the files of the features of this shape. Raise `OSError`."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        prefix = name_prefix(shape)
        names = (entry.name for entry in entries)
        yield from sorted(
            folder / name for name in names if name.startswith(prefix) and name.endswith(FEATURES)
        )


def _write_all(file: FileIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file.fileno(), left) :]
