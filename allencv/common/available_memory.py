import os
from pathlib import Path
from typing import Optional

MEMORY_INFO = Path("/proc/meminfo")
"""Linux's file with the memory of the machine, one "Name: NUMBER kB" a line."""

CONTAINER = Path("/sys/fs/cgroup")
"""Linux's folder with the limits and the use of a container."""

RUNS_AT_ONCE = "ALLENCV_RUNS_AT_ONCE"
"""The environment variable in which a sweep tells its runs how many of them share the memory."""


def available_memory(info: Path = MEMORY_INFO, container: Path = CONTAINER) -> Optional[int]:
    """
    Return how many bytes new objects may take, without swapping and within the limit of the
    container; on systems other than Linux all memory of the machine. `None` if it is unknown.
    """
    try:
        lines = dict(line.split(":") for line in info.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, OSError, ValueError):  # Windows
            return None
    try:
        limit = int((container / "memory.max").read_text())
        used = int((container / "memory.current").read_text())
        statistics = dict(map(str.split, (container / "memory.stat").read_text().splitlines()))
        # The kernel counts cached files, too, and drops them when memory is needed.
        used -= int(statistics["inactive_file"])
    except (OSError, KeyError, ValueError):  # there is no limit
        return available
    return max(0, min(available, limit - used))
