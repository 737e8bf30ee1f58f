"""Keep the output of a frozen encoder on disk, and find it by the content of the image."""

import errno
import hashlib
import itertools
import json
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError

from allencv.common.feature_segments import (
    ADDRESS_BYTES,
    INDEX,
    Segment,
    SegmentWriter,
    new_segment,
    record_bytes,
    segments_in,
)
from allencv.common.stable_text import stable_text
from allencv.common.store_size import make_room
from allencv.common.versions import installed_versions

logger = logging.getLogger(__name__)

ROOT_VARIABLE = "ALLENCV_FEATURES"
GB = 10**9
MAX_GB = 20.0
MAX_SEGMENT_BYTES = 128 * 2**20
SEGMENTS = 8
"""A small store is divided into this many segments, so that it loses an eighth at a time."""
PLACE_BITS = 32
"""A row is the number of a segment, and in the lower bits a place in it."""
LARGEST = float(np.finfo(np.float16).max)
FORMAT = 1
LIBRARIES = ("allencv", "onnxruntime", "pillow", "simplejpeg", "timm", "torch", "torchvision")
"""They decode and transform images, or compute networks."""


def default_root() -> Path:
    """
    Return `$ALLENCV_FEATURES`, or "allencv/features" in the user's folder of caches. Raise
    `ConfigurationError` as `without_tilde` does.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    chosen = os.environ.get(ROOT_VARIABLE) or os.path.join(caches, "allencv", "features")
    return without_tilde(chosen, f"{ROOT_VARIABLE}, the folder for features,")


def without_tilde(folder: str, key: str) -> Path:
    """
    Return a path with the home folder in place of "~". Raise `ConfigurationError` if it is unknown.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise ConfigurationError(
            f"{key} is '{folder}', but the home folder is unknown; expected a path without '~'"
        ) from None


def store_folder(root: Union[str, os.PathLike], encoder: str) -> Path:
    """
    Return the folder in `root` for the features of an encoder, computed with the installed
    libraries.

    # Parameters

    encoder : `str`, required
        Its `encoder_checksum`, or that of its file.
    """
    known = {"format": FORMAT, "encoder": encoder, "versions": installed_versions(LIBRARIES)}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    return Path(root) / digest.hexdigest()[:32]


def address_of(content: bytes, preprocessing: str, draws: bytes = b"") -> bytes:
    """
    Return the address of the features of an image.

    # Parameters

    content : `bytes`, required
        The SHA-256 of the image file.
    preprocessing : `str`, required
        All that is done to the image before the encoder gets it.
    draws : `bytes`, optional (default = `b""`)
        The seed of a random view.
    """
    digest = hashlib.sha256()
    for part in (content, preprocessing.encode(), draws):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()[:ADDRESS_BYTES]


def encoder_checksum(network: torch.nn.Module, precision: Optional[torch.dtype] = None) -> str:
    """
    Return a checksum of all that decides the output of a network in evaluation mode: its code and
    arguments, its parameters and buffers (see `stable_text`), and its precision.

    # Parameters

    network : `torch.nn.Module`, required
    precision : `torch.dtype`, optional (default = `None`)
        The type that autocast computes in; `None` is that of the weights.
    """
    return hashlib.sha256(stable_text([network, precision]).encode()).hexdigest()


def to_float16(features: np.ndarray) -> np.ndarray:
    """
    Return features as a `FeatureStore` keeps them.

    # Raises

    `ConfigurationError` if a number is not finite, or has no finite neighbour in `float16`.
    """
    with np.errstate(over="ignore"):
        kept = features.astype(np.float16)
    is_wrong = ~np.isfinite(kept)
    if is_wrong.any():
        raise ConfigurationError(
            f"the encoder's output has {features[is_wrong].flat[0]:g}; expected numbers from "
            f"-{LARGEST:g} to {LARGEST:g}, as features are kept in float16"
        )
    return kept


class FeatureStore:
    """
    The features of images by one encoder, in files that are mapped into memory.

    Several processes and threads may read and write at once, and any of them may be killed. Every
    record has a checksum, which is compared when the record is first found. A file with a damaged
    record is removed, with a warning, so its images count as not kept. If the disk is full or
    cannot be written, a warning says so, and no more is kept.

    A `dict` of the addresses is in memory, about 200 bytes for each.

    # Parameters

    folder : `Path`, required
        The folder of the encoder (see `store_folder`). It is created when features are first added.
    shape : `Tuple[int, ...]`, required
        The shape of the features of one image. The folder may have features of other shapes too.
    max_gb : `float`, optional (default = `20`)
        The most GB (10^9 bytes) that all folders beside `folder` may take, so those of all
        encoders in one root. Beyond it, the files that were used least recently are removed, but
        none from which this store has read or which is being written. If nothing is left to remove,
        a warning says so, and no more is kept.

    # Raises

    `ConfigurationError` for other arguments; `OSError` if the folder cannot be read.
    """

    def __init__(
        self, folder: Path, shape: Tuple[int, ...], max_gb: Optional[float] = None
    ) -> None:
        if not shape or min(shape) < 1:
            raise ConfigurationError(
                f"shape is {shape}; expected one or more numbers of at least 1"
            )
        if max_gb is None:
            max_gb = MAX_GB
        if not max_gb > 0:
            raise ConfigurationError(f"max_gb is {max_gb}; expected a number above 0")
        self._folder = Path(folder)
        self._shape = tuple(shape)
        self._max_bytes = max_gb * GB
        self._segment_bytes = int(min(MAX_SEGMENT_BYTES, self._max_bytes / SEGMENTS))
        self._segments: List[Segment] = []
        self._numbers: Dict[Path, int] = {}
        self._rows: Dict[bytes, int] = {}
        self._writer: Optional[SegmentWriter] = None
        self._pid = os.getpid()
        self._is_keeping = True
        self._lock = threading.RLock()
        self._refresh()

    def find(self, addresses: Sequence[bytes]) -> np.ndarray:
        """
        Return the rows `(n,)`, `int64`, of the features at these addresses; -1 for those that are
        not kept. Rows stay valid for as long as this object lives.
        """
        with self._lock:
            rows = self._look_up(addresses)
            if (rows < 0).any() and self._refresh():
                rows = self._look_up(addresses)
            for number, chosen in _by_segment(rows):
                if self._segments[number].are_intact(_places(rows[chosen])):
                    self._use(number)
                else:
                    self._drop(number)
                    rows[chosen] = -1
            return rows

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the features `(n, *shape)`, `float16`, in rows that `find` has returned."""
        rows = np.asarray(rows, np.int64)
        if (rows < 0).any():
            raise ValueError("rows has a negative number; expected those that `find` has found")
        features = np.empty((len(rows), *self._shape), np.float16)
        for number, chosen in _by_segment(rows):
            features[chosen] = self._segments[number].features[_places(rows[chosen])]
        return features

    def add(self, addresses: Sequence[bytes], features: np.ndarray) -> None:
        """
        Keep the features `(n, *shape)`, `float16`, at `addresses`, unless they are known.

        # Raises

        `ConfigurationError` for features that are not finite numbers, such as those that became
        infinite in `float16` (see `to_float16`).
        """
        expected = (len(addresses), *self._shape)
        if features.shape != expected or features.dtype != np.float16:
            raise ValueError(
                f"features is {features.dtype} {features.shape}; expected float16 {expected}"
            )
        if not np.isfinite(features).all():
            raise ConfigurationError("features has numbers that are not finite; expected finite")
        with self._lock:
            places = {address: place for place, address in enumerate(addresses)}
            new = [address for address in places if address not in self._rows]
            try:
                while new and self._is_keeping:
                    writer = self._writer_with_room()
                    some, new = new[: writer.room], new[writer.room :]
                    writer.write(some, features[[places[address] for address in some]])
                    self._load(writer.path)
                    self._use(self._numbers[writer.path])
                    if writer.is_removed():
                        self._close_writer()
                        new = some + new
            except OSError as error:
                self._is_keeping = False
                reason = error.strerror or error
                logger.warning("'%s': no more features are kept: %s", self._folder, reason)

    def _look_up(self, addresses: Sequence[bytes]) -> np.ndarray:
        found = map(self._rows.get, addresses, itertools.repeat(-1))
        return np.fromiter(found, np.int64, len(addresses))

    def _refresh(self) -> bool:
        """Load what other processes have written. Return whether there was anything."""
        paths = dict.fromkeys([*self._numbers, *segments_in(self._folder, self._shape)])
        return sum([self._load(path) for path in paths]) > 0

    def _load(self, path: Path) -> int:
        """Load what was added to a segment. Return the number of features."""
        number = self._numbers.setdefault(path, len(self._segments))
        if number == len(self._segments):
            self._segments.append(Segment(path, self._shape))
        segment = self._segments[number]
        first = number << PLACE_BITS | len(segment)
        added = segment.load()
        self._rows.update(zip(added, itertools.count(first)))
        return len(added)

    def _use(self, number: int) -> None:
        """Note that a segment was used, for `make_room`."""
        segment = self._segments[number]
        if not segment.is_used:
            segment.is_used = True
            with suppress(OSError):  # of another user
                os.utime(segment.path)

    def _drop(self, number: int) -> None:
        segment = self._segments[number]
        logger.warning("'%s' is damaged: it is removed and made anew", segment.path)
        segment.drop()
        if self._writer is not None and self._writer.path == segment.path:
            self._close_writer()
        self._rows = {
            address: row for address, row in self._rows.items() if row >> PLACE_BITS != number
        }

    def _writer_with_room(self) -> SegmentWriter:
        """Return the writer of this process. Raise `OSError` if there is no room for one."""
        if self._writer is not None and (self._pid != os.getpid() or not self._writer.room):
            self._close_writer()  # a forked process has segments of its own
        if self._writer is None:
            self._writer, self._pid = self._open_writer(), os.getpid()
        return self._writer

    def _open_writer(self) -> SegmentWriter:
        self._folder.mkdir(parents=True, exist_ok=True)
        in_use = {each.path for each in self._segments if each.is_used}
        if not make_room(self._folder.parent, self._segment_bytes, self._max_bytes, in_use):
            limit = f"all features together may take {self._max_bytes / GB:g} GB"
            raise OSError(errno.EDQUOT, limit, str(self._folder.parent))
        capacity = max(1, self._segment_bytes // record_bytes(self._shape))
        full = capacity * record_bytes(self._shape)
        dropped = {each.path for each in self._segments if each.is_dropped}
        for path in segments_in(self._folder, self._shape):
            with suppress(BlockingIOError, PermissionError, FileNotFoundError):
                # Without an index, the writer would cut what others may have mapped into memory.
                has_index = path.with_suffix(INDEX).exists()
                if has_index and path not in dropped and path.stat().st_size < full:
                    return SegmentWriter(path, self._shape, capacity)
        return SegmentWriter(new_segment(self._folder, self._shape), self._shape, capacity)

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _places(rows: np.ndarray) -> np.ndarray:
    return rows & (1 << PLACE_BITS) - 1


def _by_segment(rows: np.ndarray) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield the number of each segment that rows are in, and the indices of those rows."""
    numbers = rows >> PLACE_BITS
    for number in np.unique(numbers[rows >= 0]).tolist():
        yield number, np.flatnonzero(numbers == number)
