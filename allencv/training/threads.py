"""How many threads compute a network in training, beside other programs that are busy."""

import sys
from contextlib import contextmanager
from typing import Callable, Iterator, Optional

import torch

from allencv.runtime.openmp import THREADS, threads_beside_others
from allencv.runtime.plurals import numbered

BUSY = "Other programs use cores now"


@contextmanager
def fewer_threads_beside_others(say: Callable[[str], None]) -> Iterator[None]:
    """
    If other programs use cores now, compute with one thread for each idle core, at least one, and
    say so. See `threads_beside_others`. With a GPU, do nothing.
    """
    usual, threads = torch.get_num_threads(), _fewer_threads()
    if threads is not None:
        say(
            f"{BUSY}: computes with {numbered(threads, 'thread')} instead of {usual}, which is "
            f"faster beside them. {THREADS}={usual} keeps {usual}."
        )
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def hint_at_fewer_threads() -> None:
    """
    If other programs use cores now, print how many threads would be faster. A training from a
    config does not take them: it gives the same weights on each run, and another number of threads
    rounds differently.
    """
    threads = _fewer_threads()
    if threads is not None:
        print(
            f"{BUSY}: {THREADS}={threads} would make training faster beside them. Its results "
            "would differ by rounding.",
            file=sys.stderr,
        )


def _fewer_threads() -> Optional[int]:
    threads = None if torch.cuda.is_available() else threads_beside_others()
    return threads if threads is not None and threads < torch.get_num_threads() else None
