import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Put the generators of Python, numpy and torch's CPU back to their state on entry."""
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
