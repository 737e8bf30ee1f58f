"""Ends a process whose launcher has been killed: a rank, or a run of a sweep."""

import os
import threading
import time
from contextlib import suppress

SECONDS = 1.0
"""How often a process looks for its launcher."""
ENDS_WITH_PARENT = "ALLENCV_ENDS_WITH_PARENT"
"""The environment variable that tells a run that it ends with the command that has started it."""


def has_launcher() -> bool:
    """
    Return whether this process is a rank that `torchrun` or AllenCV has started. Its launcher
    reports how it ended.
    """
    return "TORCHELASTIC_RUN_ID" in os.environ


def end_with_launcher() -> None:
    """
    End this process soon after its launcher, if it has one. A launcher that is killed by SIGKILL
    cannot end what it has started.

    Call this at the start of the process, while the launcher lives. On Windows it has no effect.
    """
    if has_launcher() or ENDS_WITH_PARENT in os.environ:
        threading.Thread(target=_watch, args=[os.getppid()], daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:  # an orphan gets another parent
        time.sleep(SECONDS)
    if os.environ.get("LOCAL_RANK") == "0":
        line = f"allencv: the launcher (process {launcher}) was killed, so its ranks end\n"
        with suppress(OSError):  # the terminal may be closed, too
            os.write(2, line.encode())
    os._exit(1)  # the main thread may wait for another rank in a library
