"""Finds nearly identical images by a hash and a thumbnail of each."""

from collections import defaultdict
from typing import Iterator, List, Sequence

import numpy as np
from PIL import Image

NEAR_BITS, NEAR_CORRELATION = 4, 0.98
"""The maximum number of differing hash bits, and the minimum correlation of the thumbnails."""
BANDS = NEAR_BITS + 1
THUMBNAIL = 16


def thumbnail(grey: Image.Image) -> bytes:
    """Return a grey image scaled to 16 x 16 pixels, as bytes."""
    return grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()


def difference_hash(grey: Image.Image) -> int:
    """
    Return 64 bits that say where, in 8 rows of 9, an image gets brighter from left to right: dHash
    (Krawetz 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
    """
    # Shape: (8, 9)
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def near_groups(hashes: Sequence[int], thumbnails: Sequence[bytes]) -> List[List[int]]:
    """
    Return groups of indices of nearly identical images. Two images match if their hashes differ in
    at most `NEAR_BITS` of 64 bits and their thumbnails correlate by at least `NEAR_CORRELATION`;
    matches of matches count too. An image of one colour matches no other.
    """
    # Shape: (images, 256)
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(hashes), THUMBNAIL**2)
    pairs = [
        pair[:, _correlations(*pixels[pair]) >= NEAR_CORRELATION]
        for pair in _near_pairs(np.array(hashes, np.uint64))
    ]
    if not pairs:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.concatenate(pairs, axis=1)
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(hashes),) * 2)
    _, numbers = connected_components(edges, directed=False)
    groups = defaultdict(list)
    for place in np.unique([first, second]).tolist():
        groups[numbers[place]].append(place)
    return list(groups.values())


def _near_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """
    Return index pairs `(2, pairs)` of hashes that differ in few bits; pairs may repeat.

    The bits are split into one band more than bits may differ. So two such hashes are equal in at
    least one band, and only hashes that share a band are compared.
    """
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        order = np.argsort(hashes & mask, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order] & mask)) + 1
        for bucket in np.split(order, starts):
            # In blocks: a large bucket would take memory quadratic in its size.
            for start in range(0, len(bucket) - 1, 256):
                rows = bucket[start : start + 256]
                distances = np.bitwise_count(hashes[rows, None] ^ hashes[None, bucket[start:]])
                near = np.triu(distances <= NEAR_BITS, 1)
                if near.any():
                    row, column = near.nonzero()
                    yield np.stack([rows[row], bucket[start:][column]])


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each pair of rows; 0 if a row is constant."""
    first, second = (
        each - each.mean(1, keepdims=True, dtype=np.float32) for each in (first, second)
    )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.where(norms > 0, norms, np.inf)
