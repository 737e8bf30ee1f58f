"""Compute tables of probabilities block by block, so that temporary arrays stay small."""

from typing import Callable

import numpy as np

BLOCK = 2**20
"""The numbers of a block: 8 MiB in float64."""


def in_blocks(function: Callable[..., np.ndarray], *tables: np.ndarray) -> np.ndarray:
    """
    Return what a function returns for tables with a row for each image, computed for a block of
    rows at a time. It must return an array with a row for each image.
    """
    count, width = tables[0].shape
    step = max(1, BLOCK // max(1, width))
    if count <= step:
        return function(*tables)
    found = np.empty(0)
    for start in range(0, count, step):
        rows = slice(start, start + step)
        block = function(*(table[rows] for table in tables))
        if start == 0:
            found = np.empty((count, *block.shape[1:]), block.dtype)
        found[rows] = block
    return found
