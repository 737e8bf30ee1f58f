import fcntl
import io
import os
import pty
import struct
import sys
import termios
import time
from typing import Callable, List

import pytest
from allennlp.common import Tqdm
from allennlp.common import logging as common_logging

from allencv.common import progress_bars


def shown(columns: int, show: Callable[[], None]) -> List[str]:
    """Return the updates that a terminal with so many columns gets."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = sys.stderr
    try:
        with open(terminal, "w", encoding="utf-8") as sys.stderr:
            show()
            sys.stderr.write("end")
            sys.stderr.flush()
            written = b""
            while not written.endswith(b"end"):
                written += os.read(reader, 1 << 16)
    finally:
        sys.stderr = before
        os.close(reader)
    updates = written.decode().removesuffix("end").split("\r")
    return [each for each in updates if each.strip()]


@pytest.mark.parametrize("columns", [80, 120, 200])
def test_a_bar_is_as_wide_as_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress_bars, "DELAY", 0)

    def show() -> None:
        for _ in Tqdm.tqdm(range(3), mininterval=0):
            pass

    updates = shown(columns, show)
    assert {len(update) for update in updates} == {columns - 1}  # tqdm leaves one for the cursor
    assert updates[1].startswith(" 33%|█")


def test_what_is_quick_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert shown(80, lambda: list(Tqdm.tqdm(range(3))).clear()) == []


def test_there_is_a_line_for_each_update_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress_bars, "SECONDS_BETWEEN_LINES", 0.1)
    for _ in Tqdm.tqdm(range(4), desc="reading"):
        time.sleep(0.06)
    lines = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("reading:  50%|")
    assert "\r" not in sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_lines_can_be_asked_for_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(common_logging, "FILE_FRIENDLY_LOGGING", True)
    monkeypatch.setattr(progress_bars, "SECONDS_BETWEEN_LINES", 0)
    (written,) = {"".join(shown(80, lambda: list(Tqdm.tqdm(range(1))).clear()))}
    assert "100%|" in written
    assert "\n" in written


def test_allennlp_hides_the_terminal() -> None:
    # Delete common/progress_bars.py when these fail.
    for name in ("isatty", "fileno", "encoding"):
        assert not hasattr(progress_bars.allennlp_tqdm.TqdmToLogsWriter(), name)
