from dataclasses import dataclass, field
from typing import Callable, Dict, Tuple

import numpy as np


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
        score = SCORES[self.kind]
        return score(probabilities, vectors, multi_label, **self.arrays).astype(np.float32)


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
    logits = vectors.astype(np.float64) @ weight.T.astype(np.float64) + bias
    if multi_label:
        return -np.logaddexp(0, logits).sum(axis=1)
    return -np.logaddexp.reduce(logits, axis=1)


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
    whitened = (vectors - centre) @ whitening
    distances = (
        (whitened**2).sum(axis=1, keepdims=True) - 2 * whitened @ means.T + (means**2).sum(axis=1)
    )
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
    cosines = unit(vectors) @ kept.T.astype(np.float32)
    place = kept.shape[0] - int(neighbour)
    nearest_cosine = np.partition(cosines, place, axis=1)[:, place]
    return np.sqrt(np.maximum(2 - 2 * nearest_cosine, 0))


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
