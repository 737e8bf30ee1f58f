import os
from pathlib import Path

import pytest

from allencv.runtime.cpu_count import cpu_count


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 10**6), ("50000 100000", 1), ("150000 100000", 2), ("9900000 100000", 99)],
)
def test_workers_for_the_cores_that_a_container_may_use(
    tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    available = len(os.sched_getaffinity(0))
    assert cpu_count(tmp_path / "cpu.max") == min(available, expected)
    assert cpu_count(tmp_path / "missing") == available
