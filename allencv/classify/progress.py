import sys
import time
from typing import Iterable, Iterator, List, Optional, TextIO

from allencv.classify.output_files import Record
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import ERASE_LINE, is_terminal

CELLS = 20
"""The length of the bar, in characters."""
SECONDS_BETWEEN = 0.2


class ProgressBar:
    """
    A progress bar on stderr: the number of images done, images per second, and the time left. It
    rewrites one line, and shows nothing unless stderr is a terminal.

    # Parameters

    total : the number of images.
    done : the number of images that an earlier run has done.
    is_shown : whether to show it in a terminal.
    """

    def __init__(
        self, total: int, done: int = 0, is_shown: bool = True, stream: Optional[TextIO] = None
    ) -> None:
        self.total = total
        self.done = self._done_before = done
        self.failed = 0
        self._stream = stream or sys.stderr
        self._is_shown = is_shown and is_terminal(self._stream)
        self._start = self._shown = time.monotonic()

    def counted(self, batches: Iterable[List[Record]]) -> Iterator[List[Record]]:
        """Yield the batches, and count each after it was used."""
        for records in batches:
            yield records
            self.add(len(records), sum("error" in record for record in records))
        self.close()

    def add(self, images: int, failed: int) -> None:
        self.done += images
        self.failed += failed
        now = time.monotonic()
        if self._is_shown and now - self._shown >= SECONDS_BETWEEN:
            self._shown = now
            self._show()

    def close(self) -> None:
        if self._is_shown:
            self._show()
            self._stream.write("\n")
            self._stream.flush()

    def _show(self) -> None:
        text = self.text(time.monotonic() - self._start)
        self._stream.write(f"{ERASE_LINE}{text}")
        self._stream.flush()

    def text(self, seconds: float) -> str:
        """Return the line after a run of these seconds."""
        speed = (self.done - self._done_before) / max(seconds, 1e-3)
        cells = CELLS * self.done // max(self.total, 1)
        line = f"[{'#' * cells}{'.' * (CELLS - cells)}] {self.done} of {self.total} images"
        if speed > 0:
            left = round((self.total - self.done) / speed)
            line += f", {speed:.1f}/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
        return f"{line}, {numbered(self.failed, 'error')}" if self.failed else line
