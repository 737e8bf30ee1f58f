"""
Finds similar vectors by their cosine: exact, in blocks, so that the memory is bounded. Vectors may
be memory-mapped and of any float type.
"""

from collections import defaultdict
from typing import Iterator, List, Optional, Tuple

import numpy as np

from allencv.features.vector_checks import check_vectors
from allencv.runtime.errors import InputError

BLOCK = 4096
"""The number of vectors in a block. With 1,280 dimensions it takes 21 MB, as float32."""
DIRECTIONS = 128
"""The number of dimensions in which near copies are searched first."""
ROUNDING = 1e-5


def normalized(vectors: np.ndarray, first_row: int = 0) -> np.ndarray:
    """
    Return vectors `(n, dim)` as `float32` of length 1. A vector of zeros stays as it is, so its
    cosine to any other is 0.

    Raises an `InputError` for NaN and infinity, as `check_vectors` does.
    """
    vectors = check_vectors(vectors, first_row)
    largest = np.abs(vectors).max(1, keepdims=True)  # a square above 3e38 would be infinite
    vectors = vectors / np.where(largest > 0, largest, 1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def nearest(
    queries: np.ndarray, vectors: np.ndarray, count: int, own_rows: Optional[np.ndarray] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Find the vectors with the largest cosine to each query.

    Returns their rows in `vectors` and their cosines, both `(queries, count)`, the largest first.
    There are fewer columns if there are fewer vectors.

    # Parameters

    queries : `np.ndarray`
        `(queries, dim)`
    vectors : `np.ndarray`
        `(n, dim)`
    count : `int`
        The number of neighbours, 1 or more.
    own_rows : `np.ndarray`, optional (default = `None`)
        `(queries,)`: the row in `vectors` of each query itself. It is not among its neighbours.
    """
    if count < 1:
        raise InputError(f"the number of neighbours is {count}; expected 1 or more")
    if queries.shape[1:] != vectors.shape[1:]:
        raise InputError(
            f"the queries have the shape {queries.shape} and the vectors {vectors.shape}; expected "
            "the same number of dimensions"
        )
    count = min(count, len(vectors) - (own_rows is not None))
    parts = []
    for start, block in _blocks(queries):
        own = None if own_rows is None else own_rows[start : start + len(block)]
        parts.append(_nearest_to_block(block, vectors, count, own))
    rows, cosines = zip(*parts)
    return np.concatenate(rows), np.concatenate(cosines)


def _nearest_to_block(
    queries: np.ndarray, vectors: np.ndarray, count: int, own_rows: Optional[np.ndarray]
) -> Tuple[np.ndarray, np.ndarray]:
    rows = np.empty((len(queries), 0), np.int64)
    cosines = np.empty((len(queries), 0), np.float32)
    for start, block in _blocks(vectors):
        # Shape: (queries, block)
        found = queries @ block.T
        if own_rows is not None:
            here = np.flatnonzero((start <= own_rows) & (own_rows < start + len(block)))
            found[here, own_rows[here] - start] = -np.inf
        best = np.argpartition(-found, min(count, len(block)) - 1, axis=1)[:, :count]
        rows = np.hstack([rows, best + start])
        cosines = np.hstack([cosines, np.take_along_axis(found, best, axis=1)])
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        rows = np.take_along_axis(rows, order, axis=1)
        cosines = np.take_along_axis(cosines, order, axis=1)
    return rows, cosines


def _blocks(vectors: np.ndarray) -> Iterator[Tuple[int, np.ndarray]]:
    """Yield the first row of each block and its vectors, normalized."""
    for start in range(0, max(len(vectors), 1), BLOCK):
        yield start, normalized(vectors[start : start + BLOCK], start)


def near_copies(vectors: np.ndarray, threshold: float) -> List[List[int]]:
    """
    Return groups of rows whose vectors are nearly equal: with a cosine of `threshold` or more.
    Matches of matches count too. The groups and the rows in them are sorted.

    It is exact, and compares few pairs in all dimensions: the cosine of two vectors is at most the
    product of their projections plus the product of the lengths of what the projections leave out.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`
    threshold : `float`
        Above 0, at most 1.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the threshold is {threshold}; expected above 0, at most 1")
    threshold -= ROUNDING
    # Shape: (n, directions + 1)
    bounds = _projections(vectors)
    group = np.arange(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        for other in range(start, len(vectors), BLOCK):
            close = bounds[start : start + BLOCK] @ bounds[other : other + BLOCK].T >= threshold
            if start == other:
                close = np.triu(close, 1)
            rows, columns = np.flatnonzero(close.any(1)), np.flatnonzero(close.any(0))
            if not len(rows):
                continue
            cosines = normalized(vectors[start + rows]) @ normalized(vectors[other + columns]).T
            pairs = np.nonzero((cosines >= threshold) & close[np.ix_(rows, columns)])
            group = _join(group, start + rows[pairs[0]], other + columns[pairs[1]])
    groups = defaultdict(list)
    for row, number in enumerate(group.tolist()):
        groups[number].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _projections(vectors: np.ndarray) -> np.ndarray:
    """
    Return the normalized vectors in the directions where those of the first block are longest, and
    as the last number the length of the rest.
    """
    _, sample = next(_blocks(vectors))
    _, directions = np.linalg.eigh(sample.T @ sample)
    directions = directions[:, -DIRECTIONS:]
    parts = []
    for _, block in _blocks(vectors):
        inside = block @ directions
        rest = np.square(block).sum(1) - np.square(inside).sum(1)
        parts.append(np.column_stack([inside, np.sqrt(np.maximum(rest, 0))]))
    return np.concatenate(parts)


def _join(group: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the number of the group of each row after the groups of pairs were joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(first), bool), (group[first], group[second])), (len(group),) * 2)
    return connected_components(edges, directed=False)[1][group]
