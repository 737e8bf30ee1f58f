"""Let only as many threads work at once as there are cores."""

import queue
import threading
from contextlib import contextmanager
from typing import Iterator, Optional


class Turns:
    """
    Lets `count` threads work at once; the others sleep until one ends its turn. More threads than
    cores would pass Python's lock around at every call of a library, and work slower.

    A thread ends its turn while it waits for a file: see `waiting_for_data`.
    """

    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and have it inside."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Give this thread's turn to another one inside."""
        self._end()
        try:
            yield
        finally:
            self._begin()

    def _begin(self) -> None:
        self._free.get()
        _of_this_thread.turns = self

    def _end(self) -> None:
        _of_this_thread.turns = None
        self._free.put(None)


class _OfThisThread(threading.local):
    turns: Optional[Turns] = None


_of_this_thread = _OfThisThread()


@contextmanager
def waiting_for_data() -> Iterator[None]:
    """Let another thread work inside, if this one has a turn: this one waits for a file."""
    turns = _of_this_thread.turns
    if turns is None:
        yield
    else:
        with turns.pause():
            yield
