from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, Dict, Optional, Tuple

import numpy as np

from allencv.runtime.certainty.blocks import in_blocks

ONE_THREAD = 2**18
"""Multiplications that BLAS does not share among threads (OpenBLAS 0.3: up to 2**18)."""
FEW_VECTORS = 32


@dataclass(frozen=True)
class UnknownRule:
    """
    Tells images that are unlike the training data, by a score: the higher, the less alike.

    # Parameters

    kind : a key of `SCORES`.
    limit : an image with a higher score is unknown.
    known_share : the share of known images, in (0, 1), whose score is at most the limit.
    arrays : what the score needs, by the names of the arguments of its function.
    """

    kind: str
    limit: float
    known_share: float
    arrays: Dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def needs_vectors(self) -> bool:
        """Whether the score uses the vectors."""
        return self.kind != "max_probability"

    def scores(
        self, probabilities: np.ndarray, vectors: np.ndarray, multi_label: bool
    ) -> np.ndarray:
        """
        Return the scores `(images,)`, `float32`.

        # Parameters

        probabilities : `(images, labels)`, as the network gives them, before the calibration.
        vectors : `(images, vector_size)`, those before the last layer.
        """
        score, arrays = SCORES[self.kind], self._prepared

        def scores(*rows: np.ndarray) -> np.ndarray:
            return score(*rows, multi_label, **arrays).astype(np.float32)

        return in_blocks(scores, probabilities, vectors)

    @cached_property
    def _prepared(self) -> Dict[str, np.ndarray]:
        """The arrays in float32: vectors are kept in float16, which numpy computes slowly."""
        return {
            name: array.astype(np.float32) if array.dtype.kind == "f" else array
            for name, array in self.arrays.items()
        }


def scored(
    rule: Optional[UnknownRule], probabilities: np.ndarray, vectors: np.ndarray, multi_label: bool
) -> np.ndarray:
    """Return the scores of a rule, or without one those of "max_probability"."""
    return (rule or UnknownRule("max_probability", 0.0, 1.0)).scores(
        probabilities, vectors, multi_label
    )


def max_probability(
    probabilities: np.ndarray, vectors: np.ndarray, multi_label: bool
) -> np.ndarray:
    """
    Return 1 - the highest probability (Hendrycks and Gimpel 2017, arXiv:1610.02136). With
    `multi_label`, the confidence of an image is that of its least certain label.
    """
    if multi_label:
        return np.minimum(probabilities, 1 - probabilities).max(axis=1)
    return 1 - probabilities.max(axis=1)


def energy(
    probabilities: np.ndarray,
    vectors: np.ndarray,
    multi_label: bool,
    weight: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    """
    Return the free energy, -log(sum(exp(logits))) (Liu et al. 2020, arXiv:2010.03759); with
    `multi_label` the sum of the labels' energies (Wang et al. 2021, arXiv:2111.12797).

    # Parameters

    weight, bias : `(labels, vector_size)` and `(labels,)`, of the last layer.
    """
    logits = products(vectors, weight).astype(np.float64) + bias
    if multi_label:
        return -np.logaddexp(0, logits).sum(axis=1)
    largest = logits.max(axis=1, keepdims=True)
    return -(largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1)))


def mahalanobis(
    probabilities: np.ndarray,
    vectors: np.ndarray,
    multi_label: bool,
    centre: np.ndarray,
    means: np.ndarray,
    whitening: np.ndarray,
) -> np.ndarray:
    """
    Return half the squared Mahalanobis distance to the nearest mean of a label (Lee et al. 2018,
    arXiv:1807.03888).

    # Parameters

    centre : `(vector_size,)`, subtracted from the vectors first.
    means : `(labels, size)`, of the whitened vectors of each label.
    whitening : `(vector_size, size)`, which makes the covariance within a label the identity.
    """
    whitened = products(vectors - centre, whitening.T)
    distances = (whitened**2).sum(axis=1, keepdims=True) - 2 * products(whitened, means)
    distances += (means**2).sum(axis=1)
    return 0.5 * np.maximum(distances.min(axis=1), 0)


def nearest(
    probabilities: np.ndarray,
    vectors: np.ndarray,
    multi_label: bool,
    kept: np.ndarray,
    neighbour: np.ndarray,
) -> np.ndarray:
    """
    Return the distance to the k-th nearest vector of the training images, all scaled to length 1
    (Sun et al. 2022, arXiv:2204.06507).

    # Parameters

    kept : `(kept, vector_size)`, vectors of training images of length 1.
    neighbour : k, at most the number of kept vectors.
    """
    cosines = products(unit(vectors), kept)
    place = kept.shape[0] - int(neighbour)
    nearest_cosine = np.partition(cosines, place, axis=1)[:, place]
    return np.sqrt(np.maximum(2 - 2 * nearest_cosine, 0))


def products(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """
    Return `vectors @ rows.T`, for few vectors computed by this thread alone.

    BLAS shares larger products among threads of its own. On cores that others use, as those of a
    server, these wait for each other for many times as long as the product takes.
    """
    count, size = vectors.shape
    if count > FEW_VECTORS:
        return vectors @ rows.T
    step = max(1, ONE_THREAD // max(1, count * size))
    pieces = [vectors @ rows[first : first + step].T for first in range(0, len(rows), step)]
    return np.concatenate(pieces, axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1. Zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)


Score = Callable[..., np.ndarray]
SCORES: Dict[str, Score] = {
    "max_probability": max_probability,
    "energy": energy,
    "mahalanobis": mahalanobis,
    "nearest": nearest,
}
ARRAYS: Dict[str, Dict[str, Tuple[str, ...]]] = {
    "max_probability": {},
    "energy": {"weight": ("labels", "vector_size"), "bias": ("labels",)},
    "mahalanobis": {
        "centre": ("vector_size",),
        "means": ("labels", "size"),
        "whitening": ("vector_size", "size"),
    },
    "nearest": {"kept": ("kept", "vector_size"), "neighbour": ()},
}
"""The arrays of each kind, with their shapes."""
