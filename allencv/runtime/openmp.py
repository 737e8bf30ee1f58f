"""How the threads of OpenMP, which compute a network on a CPU, wait for each other."""

import os
import time
from pathlib import Path

SPINS = "GOMP_SPINCOUNT"
SET_BY_USER = (SPINS, "OMP_WAIT_POLICY")
FEW_SPINS = "1000"
LOADAVG = Path("/proc/loadavg")
"""Linux's file with the number of threads that run: "0.20 0.18 0.12 1/80 11206"."""
SAMPLES, PAUSE = 10, 0.005
"""How often the file is read, and the seconds between two readings."""


def wait_asleep_if_busy(loadavg: Path = LOADAVG) -> None:
    """
    Let the threads of GNU's OpenMP soon sleep when they wait, if other programs use the cores now.

    By default they spin for milliseconds at each barrier. Beside a busy program, a thread often
    spins for one that has no core, and training keeps a tenth of its speed. Asleep they keep more
    than half of it, but on a quiet machine they would lose a quarter (docs/devices.md).

    OpenMP reads the environment when torch is imported, so this must come first. It changes nothing
    if the user has set how threads wait, or where the system does not tell what runs.
    """
    if any(name in os.environ for name in SET_BY_USER):
        return
    try:
        if _others_running(loadavg) >= 0.5:
            os.environ[SPINS] = FEW_SPINS
    except (OSError, ValueError, IndexError):  # not Linux
        return


def _others_running(loadavg: Path) -> float:
    """Return how many threads of other programs run, on average over a twentieth of a second."""
    running = 0
    for _ in range(SAMPLES):
        time.sleep(PAUSE)
        running += int(loadavg.read_text().split()[3].partition("/")[0]) - 1  # without this one
    return running / SAMPLES
