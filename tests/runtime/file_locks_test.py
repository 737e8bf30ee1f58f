import errno
import fcntl
import os
from pathlib import Path

import pytest

from allencv.runtime.file_locks import lock


def test_one_has_the_lock_until_it_closes_the_file(tmp_path: Path) -> None:
    """Two openings of a file are like two processes: `flock` belongs to the opening."""
    with open(tmp_path / "a", "w") as first, open(tmp_path / "a") as second:
        assert lock(first.fileno()) is None
        with pytest.raises(BlockingIOError):
            lock(second.fileno())
        first.close()
        assert lock(second.fileno()) is None


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with open(tmp_path / "a", "w") as file:
        assert lock(file.fileno()) == os.strerror(errno.ENOLCK)
