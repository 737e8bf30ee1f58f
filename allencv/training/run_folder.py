"""The folder of a run: its lock, and the leftovers of a run without a checkpoint."""

import json
import logging
import os
import re
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Set, Union

from allennlp.common.checks import ConfigurationError
from allennlp.training.checkpointer import Checkpointer

from allencv.runtime.file_locks import NO_LOCKS, lock

logger = logging.getLogger(__name__)

LOCKED = "ALLENCV_LOCKED_FOLDER"
"""The environment variable that tells the ranks of a run that its first process has the lock."""
LEFTOVER = re.compile(
    r"config\.json|meta\.json|out\.log|out_worker\d+\.log|vocabulary|log|predictions"
    r"|metrics_epoch_\d+\.json|not_finite\.th|first_weights\.th|\.allencv-[0-9a-f]{32}\.\w+"
)
"""The names of what a run writes before its first checkpoint and its first `best.th`."""
BEGUN = re.compile(r"meta\.json|out_worker\d+\.log")
"""The names of what a run alone writes, and early."""

_held: Set[int] = set()  # the descriptors of locked folders


NOT_HERE = "Folders cannot be locked here. Let no other run write to %s"


@contextmanager
def locked(folder: Union[str, os.PathLike]) -> Iterator[None]:
    """
    Keep other runs away from `folder`. Create it if it is missing, and remove it again if it is
    still empty at the end. The lock is on the folder itself, needs no file, and always ends with
    this process. A lock that this process has, or the one that started it as a rank, is shared.

    Warn if folders cannot be locked, as on Windows and on NFS.

    # Raises

    `ConfigurationError` if another run has the lock.
    """
    place = os.path.realpath(folder)
    before = os.environ.get(LOCKED)
    if before == place:
        yield
        return
    is_new = not os.path.isdir(place)
    os.makedirs(place, exist_ok=True)
    descriptor = _lock(place)
    os.environ[LOCKED] = place
    try:
        yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                os.rmdir(place)
        os.environ.pop(LOCKED)
        if before is not None:
            os.environ[LOCKED] = before
        if descriptor is not None:
            _held.discard(descriptor)
            os.close(descriptor)


def _lock(folder: str) -> Optional[int]:
    if os.name == "nt":  # folders cannot be opened
        logger.warning(NOT_HERE, folder)
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        reason = lock(descriptor)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(
            f"another run is writing to {folder}; wait until it has ended, or choose another "
            "folder with -s"
        ) from None
    if reason is not None:
        os.close(descriptor)
        if reason == NO_LOCKS:
            logger.warning(NOT_HERE, folder)
        else:
            logger.warning("%s cannot be locked (%s). Let no other run write to it", folder, reason)
        return None
    _held.add(descriptor)
    return descriptor


def _close_locks() -> None:
    """Close the locks in a forked process, which may outlive its parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_close_locks)


def has_checkpoint(folder: Path) -> bool:
    """Return whether the run in `folder` has a training state, which is written last."""
    return any(map(Checkpointer._parse_training_state_path, os.listdir(folder)))


def is_unbegun(folder: Path) -> bool:
    """Return whether a run in `folder` has ended before its first checkpoint."""
    # A config alone may be the user's own.
    return any(map(BEGUN.fullmatch, os.listdir(folder))) and has_only_leftovers(folder)


def has_only_leftovers(folder: Path) -> bool:
    """Return whether `folder` holds only what a run writes before its first checkpoint."""
    predictions = folder / "predictions"
    if predictions.is_dir() and set(os.listdir(predictions)) - {"run.json"}:
        return False
    return all(map(LEFTOVER.fullmatch, os.listdir(folder)))


def read_json(path: Path) -> Dict[str, Any]:
    """
    Read a JSON object that a run has written.

    # Raises

    `ConfigurationError` if the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        first = str(error).partition("\n")[0]
        raise ConfigurationError(
            f"{path} is damaged ({first}); restore it, or train in another folder"
        ) from None
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path} holds a {type(content).__name__}; expected a JSON object; restore it, or "
            "train in another folder"
        )
    return content


def clear(folder: Path) -> None:
    """Delete the contents of `folder`, but not the folder, which holds the lock."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
