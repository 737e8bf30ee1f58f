import sys
import time
from typing import Optional, TextIO

from allencv.runtime.plurals import numbered

CELLS = 20
"""The length of the bar."""
SECONDS_BETWEEN = 0.2


class ProgressBar:
    """
    Says on stderr how far a run has come: how many images of how many, how many a second, and how
    long the rest will take. It is one line that is written anew, and is silent unless stderr is a
    terminal.

    # Parameters

    total : the number of images.
    done : how many of them an earlier run has done.
    """

    def __init__(self, total: int, done: int = 0, stream: Optional[TextIO] = None) -> None:
        self.total = total
        self.done = self._done_before = done
        self.failed = 0
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._start = self._shown = time.monotonic()

    def add(self, images: int, failed: int) -> None:
        self.done += images
        self.failed += failed
        now = time.monotonic()
        if self._is_terminal and now - self._shown >= SECONDS_BETWEEN:
            self._shown = now
            self._show()

    def close(self) -> None:
        if self._is_terminal:
            self._show()
            self._stream.write("\n")
            self._stream.flush()

    def _show(self) -> None:
        text = self.text(time.monotonic() - self._start)
        # to the end of the line, as the text before may have been longer
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def text(self, seconds: float) -> str:
        """The line as it is when the run has taken so long."""
        speed = (self.done - self._done_before) / max(seconds, 1e-3)
        cells = CELLS * self.done // max(self.total, 1)
        line = f"[{'#' * cells}{'.' * (CELLS - cells)}] {self.done} of {self.total} images"
        if speed > 0:
            left = round((self.total - self.done) / speed)
            line += f", {speed:.1f}/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        return f"{line}, {numbered(self.failed, 'error')}" if self.failed else line
