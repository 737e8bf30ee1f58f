import os
from pathlib import Path
from typing import Callable, Dict, List, Optional

import pytest

from allencv.runtime import openmp
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.openmp import (
    FEW_SPINS,
    SET_BY_USER,
    SPINS,
    STAT,
    THREADS,
    threads_beside_others,
    wait_asleep_if_busy,
)

VARIABLES = (THREADS, *SET_BY_USER)
CORES = 4
Watch = Callable[[List[float]], Optional[int]]


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Watch:
    """Watch cores that are idle for these shares of the time."""

    def text(ticks: int, idle: List[float]) -> str:
        idle_ticks = [round(ticks * each) for each in idle]
        cores = [
            f"cpu{core} {ticks - each} 0 0 {each} 0 0 0 0 9 0"
            for core, each in enumerate(idle_ticks)
        ]
        return "\n".join(["cpu  7 0 0 1 0 0 0 0 0 0", *cores, "intr 1", "ctxt 2"])

    def threads(idle: List[float]) -> Optional[int]:
        stat = tmp_path / "stat"
        stat.write_text(text(100, idle))
        monkeypatch.setattr(openmp.time, "sleep", lambda _: stat.write_text(text(200, idle)))
        monkeypatch.setattr(openmp, "cpu_count", lambda: CORES)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(CORES)), raising=False)
        return threads_beside_others(stat)

    return threads


@pytest.mark.parametrize(
    ("idle", "expected"),
    [
        ([1, 1, 1, 1], None),
        ([1, 1, 1, 0.6], None),  # less than half a core is used
        ([1, 1, 1, 0.4], 3),
        ([0.5, 0.5, 0.5, 0.5], 2),  # by programs that change cores
        ([0, 0, 0, 1], 1),
        ([0, 0, 0, 0], 1),
        ([0, 0, 0, 0, 1, 1], 1),  # this process may not use the last two
        ([1, 1, 1, 1, 0, 0], None),
    ],
)
def test_threads_for_the_idle_cores(
    watch: Watch, idle: List[float], expected: Optional[int]
) -> None:
    assert watch(idle) == expected


def test_the_number_of_threads_is_left_to_the_user(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(THREADS, "2")
    assert watch([0, 1, 1, 1]) is None
    monkeypatch.setenv(THREADS, "")
    assert watch([0, 1, 1, 1]) == 3


@pytest.mark.parametrize("text", ["", "cpu0\n", "cpu0 a b c d e\n"])
def test_a_file_that_does_not_tell(text: str, tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(text)
    assert threads_beside_others(file) is None


def test_a_system_without_the_file(tmp_path: Path) -> None:
    assert threads_beside_others(tmp_path / "missing") is None


@pytest.mark.skipif(not STAT.exists(), reason="only Linux has the file")
def test_the_file_of_this_system_is_read() -> None:
    assert threads_beside_others() in (None, *range(1, cpu_count()))


@pytest.mark.parametrize("threads", [None, 1])
def test_threads_sleep_soon_beside_other_programs(
    threads: Optional[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openmp, "threads_beside_others", lambda: threads)
    wait_asleep_if_busy()
    assert variables() == ({} if threads is None else {SPINS: FEW_SPINS})


@pytest.mark.parametrize("name", SET_BY_USER)
def test_how_threads_wait_is_left_to_the_user(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ACTIVE" if name != SPINS else "7")
    monkeypatch.setattr(openmp, "threads_beside_others", lambda: 1)
    before = variables()
    wait_asleep_if_busy()
    assert variables() == before


def variables() -> Dict[str, str]:
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}
