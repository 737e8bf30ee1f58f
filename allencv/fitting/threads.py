"""How many threads compute the network while `fit` trains."""

from contextlib import contextmanager
from typing import Callable, Iterator

import torch

from allencv.runtime.openmp import THREADS, threads_beside_others
from allencv.runtime.plurals import numbered

Say = Callable[[str], None]


@contextmanager
def fewer_threads_beside_others(say: Say) -> Iterator[None]:
    """
    If other programs use cores now, compute with as many threads as cores are idle, at least one,
    and say so. See `threads_beside_others`. On a GPU it does nothing.
    """
    usual = torch.get_num_threads()
    threads = None if torch.cuda.is_available() else threads_beside_others()
    if threads is not None and threads < usual:
        say(
            f"Other programs use cores now: computes with {numbered(threads, 'thread')} instead of "
            f"{usual}, which is faster beside them. {THREADS}={usual} keeps {usual}."
        )
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(usual)
