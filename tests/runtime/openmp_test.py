import os
from pathlib import Path
from typing import Optional

import pytest

from allencv.runtime.openmp import FEW_SPINS, LOADAVG, SET_BY_USER, SPINS, wait_asleep_if_busy


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET_BY_USER:
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.20 0.18 0.12 1/80 11206\n", None),
        ("0.00 0.00 0.00 2/80 11206\n", FEW_SPINS),
        ("9.00 9.00 9.00 1/80 11206\n", None),  # what has ended does not count
        ("", None),
        ("a b c d e", None),
    ],
)
def test_threads_sleep_beside_other_programs(
    text: str, expected: Optional[str], tmp_path: Path
) -> None:
    file = tmp_path / "loadavg"
    file.write_text(text)
    wait_asleep_if_busy(file)
    assert os.environ.get(SPINS) == expected


def test_a_system_without_the_file(tmp_path: Path) -> None:
    wait_asleep_if_busy(tmp_path / "missing")
    assert SPINS not in os.environ


@pytest.mark.parametrize("name", SET_BY_USER)
def test_what_the_user_has_set_stays(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "loadavg"
    file.write_text("1 1 1 9/80 11206")
    monkeypatch.setenv(name, "ACTIVE" if name != SPINS else "7")
    before = dict(os.environ)
    wait_asleep_if_busy(file)
    assert dict(os.environ) == before


@pytest.mark.skipif(not LOADAVG.exists(), reason="only Linux has the file")
def test_the_file_of_this_system_is_read() -> None:
    wait_asleep_if_busy()
    assert os.environ.get(SPINS) in (None, FEW_SPINS)
