"""Finds images that are nearly the same among many, by a hash and a thumbnail of each."""

from collections import defaultdict
from typing import Iterator, List, Sequence

import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEAR_BITS, NEAR_CORRELATION = 4, 0.98
"""How many bits of two difference hashes may differ, and how alike the thumbnails must be."""
BANDS = NEAR_BITS + 1
THUMBNAIL = 16


def thumbnail(grey: Image.Image) -> bytes:
    """The 16 x 16 pixels of a grey image, made small."""
    return grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()


def difference_hash(grey: Image.Image) -> int:
    """
    The 64 bits of an image that say where, in 8 rows of 9, it grows brighter from left to right:
    dHash (Krawetz 2013, https://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html).
    """
    # Shape: (8, 9)
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def near_groups(hashes: Sequence[int], thumbnails: Sequence[bytes]) -> List[List[int]]:
    """
    The places of images that are nearly the same: those whose difference hashes differ in
    `NEAR_BITS` of 64 bits at most, and whose thumbnails correlate by `NEAR_CORRELATION`, with all
    that are like them in turn. An image of one colour is like no other.
    """
    # Shape: (images, 256)
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(len(hashes), THUMBNAIL**2)
    pairs = [
        pair[:, _correlations(*pixels[pair]) >= NEAR_CORRELATION]
        for pair in _near_pairs(np.array(hashes, np.uint64))
    ]
    if not pairs:
        return []
    first, second = np.concatenate(pairs, axis=1)
    edges = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(hashes),) * 2)
    _, numbers = connected_components(edges, directed=False)
    groups = defaultdict(list)
    for place in np.unique([first, second]).tolist():
        groups[numbers[place]].append(place)
    return list(groups.values())


def _near_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """
    The places `(2, pairs)` of hashes that differ in few bits; a pair may come several times.

    The bits are dealt into one band more than bits may differ, so two such hashes are equal in one
    band at least: only those that share a band are compared.
    """
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        order = np.argsort(hashes & mask, kind="stable")
        starts = np.flatnonzero(np.diff(hashes[order] & mask)) + 1
        for bucket in np.split(order, starts):
            # In blocks, so that a bucket of many takes no memory of many squared.
            for start in range(0, len(bucket) - 1, 256):
                rows = bucket[start : start + 256]
                distances = np.bitwise_count(hashes[rows, None] ^ hashes[None, bucket[start:]])
                near = np.triu(distances <= NEAR_BITS, 1)
                if near.any():
                    row, column = near.nonzero()
                    yield np.stack([rows[row], bucket[start:][column]])


def _correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row with its partner; 0 where one is of one colour."""
    first, second = (
        each - each.mean(1, keepdims=True, dtype=np.float32) for each in (first, second)
    )
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.where(norms > 0, norms, np.inf)
