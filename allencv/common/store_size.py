"""Keep the size of all feature stores in one root within a limit."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Collection

from allencv.common.feature_segments import FEATURES, INDEX, remove
from allencv.runtime.file_locks import lock

logger = logging.getLogger(__name__)

PATTERN = f"*/*-{'[0-9a-f]' * 32}{FEATURES}"
"""The segments of all stores in a root."""


def make_room(root: Path, needed: int, limit: float, in_use: Collection[Path]) -> bool:
    """
    Remove the segments of the stores in `root` that were used least recently, until `needed` more
    bytes are within the `limit`. Keep those that are `in_use` or being written. Return whether
    there is room.
    """
    paths = sorted(root.glob(PATTERN), key=_last_use)
    excess = sum(map(size_of, paths)) + needed - limit
    for path in paths:
        if excess > 0 and path not in in_use and not is_being_written(path):
            before = size_of(path)
            remove(path)
            excess -= before - size_of(path)
            logger.info("removed '%s': the features take more than %g GB", path, limit / 1e9)
    return excess <= 0


def size_of(path: Path) -> int:
    """Return the bytes of a segment."""
    return sum(_size(file) for file in (path, path.with_suffix(INDEX)))


def is_being_written(path: Path) -> bool:
    """Return whether a writer has locked a segment."""
    with suppress(FileNotFoundError, PermissionError):
        file = os.open(path, os.O_RDWR)
        try:
            lock(file)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
