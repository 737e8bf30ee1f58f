import io
from typing import Any

import pytest

from allencv.classify.progress import ProgressBar
from tests.runtime.terminal_test import Terminal


def test_the_line_counts_what_this_run_does() -> None:
    progress = ProgressBar(10_000, done=1_000, stream=io.StringIO())
    assert progress.text(0.0) == "[##..................] 1000 of 10000 images"
    progress.add(4_000, failed=0)
    line = "[##########..........] 5000 of 10000 images, 40.0/s, 0:02:05 left"
    assert progress.text(100.0) == line
    progress.add(0, failed=3)
    assert progress.text(100.0) == f"{line}, 3 errors"


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allencv.classify.progress.SECONDS_BETWEEN", 0)
    stream = Terminal()
    progress = ProgressBar(4, stream=stream)
    batches: Any = [[{"error": "it is empty"}], [{}, {}, {}]]
    assert list(progress.counted(batches)) == batches
    _, first, second, last = stream.getvalue().split("\r\x1b[K")
    assert first.startswith("[#####...............] 1 of 4 images, ")
    assert first.endswith(" left, 1 error")
    assert second.startswith("[####################] 4 of 4 images, ")
    assert last.endswith(", 0:00:00 left, 1 error\n")


def test_elsewhere_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allencv.classify.progress.SECONDS_BETWEEN", 0)
    hidden, elsewhere = Terminal(), io.StringIO()
    for progress in (
        ProgressBar(2, is_shown=False, stream=hidden),
        ProgressBar(2, stream=elsewhere),
    ):
        progress.add(1, failed=0)
        progress.add(1, failed=1)
        progress.close()
        assert (progress.done, progress.failed) == (2, 1)
    assert hidden.getvalue() == elsewhere.getvalue() == ""


def test_nothing_to_do_is_no_error() -> None:
    assert ProgressBar(0, stream=io.StringIO()).text(0.0).endswith(" 0 of 0 images")
