import math
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Linux's file with the CPU time that a container may use: "QUOTA PERIOD" or "max PERIOD"."""

MAX_WORKERS = 1024
"""The most threads or processes that a command starts."""


def cpu_count(cpu_quota: Path = CPU_QUOTA) -> int:
    """Return the number of cores that this process may use, at least 1."""
    try:
        available = len(os.sched_getaffinity(0))
    except AttributeError:  # not available on every system
        available = os.cpu_count() or 1
    try:
        quota, period = map(int, cpu_quota.read_text().split())
    except (OSError, ValueError):  # there is no quota
        return available
    return min(available, max(1, math.ceil(quota / period)))
