"""Choose the number of OpenMP's threads, and how they wait, when other programs are busy."""

import os
import time
from pathlib import Path
from typing import Dict, Optional, Tuple

from allencv.runtime.cpu_count import cpu_count

THREADS = "OMP_NUM_THREADS"
SPINS = "GOMP_SPINCOUNT"
SET_BY_USER = (SPINS, "OMP_WAIT_POLICY")
FEW_SPINS = "1000"
STAT = Path("/proc/stat")
"""Linux's file with the time that each core was busy and idle since the start of the system."""
SECONDS = 0.1
"""How long the cores are watched."""


def threads_beside_others(stat: Path = STAT) -> Optional[int]:
    """
    Return how many threads suit the cores that other programs leave idle now, at least 1. Return
    `None` if enough cores are idle, if the user has set the number of threads, or if the system
    gives no figures.

    By default there are as many threads as cores, and they spin for milliseconds at each barrier.
    Beside a busy program, a thread then often spins while it waits for one that has no core.
    Training keeps more than half of its speed with fewer threads, but its results differ by
    rounding (docs/devices.md).
    """
    if os.environ.get(THREADS):
        return None
    try:
        threads = max(1, round(_free_cores(stat)))
    except (AttributeError, OSError, ValueError, KeyError):  # not Linux
        return None
    return threads if threads < cpu_count() else None


def wait_asleep_if_busy() -> None:
    """
    Let the threads of GNU's OpenMP soon sleep when they wait, if other programs use cores now and
    the user has not set how they wait. Results stay the same. Beside a busy program predictions
    keep half of their speed, but on a quiet machine they would lose a tenth, or a quarter with
    small batches. OpenMP reads the environment when torch is imported, so this must come first.
    """
    is_set = any(name in os.environ for name in SET_BY_USER)
    if not is_set and threads_beside_others() is not None:
        os.environ[SPINS] = FEW_SPINS


def _free_cores(stat: Path) -> float:
    """Return how many of the cores that this process may use are idle, on average."""
    before = _times(stat)
    time.sleep(SECONDS)
    after = _times(stat)
    return sum(_idle_share(before[core], after[core]) for core in os.sched_getaffinity(0))


def _times(stat: Path) -> Dict[int, Tuple[int, int]]:
    """Return the idle and the whole time of each core, in the ticks of the system."""
    times = {}
    for line in stat.read_text().splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name != "cpu":
            # user, nice, system, idle, waiting for files, interrupts (2), other virtual machines
            each = list(map(int, ticks[:8]))
            times[int(name[3:])] = (sum(each[3:5]), sum(each))
    return times


def _idle_share(before: Tuple[int, int], after: Tuple[int, int]) -> float:
    ticks = after[1] - before[1]
    return (after[0] - before[0]) / ticks if ticks else 1.0
