"""
What the processes of a test run share: with `pytest -n` each of them has fixtures of its own, and
would train and start the same once more.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable

from filelock import FileLock

SHARED = "ALLENCV_TESTS"
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ


def shared_folder() -> Path:
    """Return a folder that the processes of a test run share."""
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="allencv-tests-")
    return Path(os.environ[SHARED])


def remove_shared_folder() -> None:
    if not IS_WORKER:
        shutil.rmtree(os.environ.pop(SHARED))


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder `name`, shared by all test processes. The first caller makes it."""
    folder = shared_folder() / name
    with FileLock(f"{folder}.lock"):
        made = Path(f"{folder}.made")
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
            make(folder)
            made.touch()
    return folder
