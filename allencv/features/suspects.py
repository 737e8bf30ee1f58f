"""Finds images that may not belong where they are, from their vectors `(n, dim)`."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import List, Optional, Tuple

import numpy as np

from allencv.features.folds import choose_folds
from allencv.features.heads import choose_strength
from allencv.features.logistic_regression import find_scale, fit_logistic_regressions
from allencv.features.neighbours import nearest
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.errors import InputError

NEIGHBOURS = 10
FENCE = 3.0


@dataclass
class OutlierDistances:
    """
    The mean cosine distance, from 0 to 2, of each image to its nearest images.

    # Parameters

    own : `np.ndarray`
        `(n,)`: to those of its own class; NaN if it is the only one of its class.
    all : `np.ndarray`
        `(n,)`: to those of any class.
    """

    own: np.ndarray
    all: np.ndarray


def outlier_distances(
    vectors: np.ndarray, labels: np.ndarray, classes: int, neighbours: int = NEIGHBOURS
) -> OutlierDistances:
    """
    Compute how far each image is from its `neighbours` nearest images, or from all if there are
    fewer (Ramaswamy et al. 2000; the mean as in Angiulli and Pizzuti 2002).

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`
    labels : `np.ndarray`
        Class indices `(n,)`.
    classes : `int`
        The number of classes. A class may have no image.
    neighbours : `int`, optional (default = `10`)
        1 or more.
    """
    check_labels(labels, len(vectors), classes)
    own = np.full(len(vectors), np.nan, np.float32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        own[rows] = _mean_distances(vectors[rows], neighbours)
    return OutlierDistances(own, _mean_distances(vectors, neighbours))


def _mean_distances(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    if len(vectors) == 1:
        return np.full(1, np.nan, np.float32)
    _, cosines = nearest(vectors, vectors, neighbours, own_rows=np.arange(len(vectors)))
    return 1 - cosines.mean(1)


def find_outliers(distances: np.ndarray) -> List[int]:
    """
    Return the rows of outliers, the farthest first: those more than 3 interquartile ranges above
    the upper quartile (Tukey 1977, "far out"). NaN is never an outlier.
    """
    known = distances[~np.isnan(distances)]
    if not len(known):
        return []
    lower, upper = np.percentile(known, [25, 75])
    far = np.flatnonzero(distances > upper + FENCE * (upper - lower) + 1e-5)  # float32's rounding
    return far[np.argsort(-distances[far], kind="stable")].tolist()


@dataclass
class LabelSuspect:
    """
    An image whose vector lies among another label.

    # Parameters

    row : `int`
        The row of the image.
    label, suggested : `int`
        The class index that it has, and the one that it may belong to.
    own, other : `float`
        Their probabilities, from a head that was fitted without the image.
    """

    row: int
    label: int
    suggested: int
    own: float
    other: float


def find_label_suspects(
    vectors: np.ndarray, labels: np.ndarray, classes: int
) -> List[LabelSuspect]:
    """
    Return images that may have a wrong label, the least probable label first: those of
    `confident_learning` on the probabilities of `held_out_probabilities`.
    """
    probs = held_out_probabilities(vectors, labels, classes)
    return [
        LabelSuspect(
            row, int(labels[row]), other, float(probs[row, labels[row]]), float(probs[row, other])
        )
        for row, other in confident_learning(probs, labels)
    ]


def held_out_probabilities(vectors: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """
    Return the probabilities `(n, classes)` of each image from a logistic regression that was fitted
    without its fold. They are NaN for an image that is never held out, because no other has its
    label (`choose_folds`).

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`
    labels : `np.ndarray`
        Class indices `(n,)`. Each class must have an image.
    """
    from scipy.special import softmax

    vectors = check_vectors(vectors)
    check_labels(labels, len(vectors), classes, every_class=True)
    scaled = find_scale(vectors).apply(vectors)
    kind = "logistic_regression"
    strength = choose_strength(kind, scaled, labels, classes, standard_errors=0)
    folds = choose_folds(labels)
    probs = np.full((len(vectors), classes), np.nan, np.float32)
    for fold in range(folds.max() + 1):
        train, held_out = folds != fold, folds == fold
        ((weight, bias),) = fit_logistic_regressions(
            scaled[train], labels[train], classes, [strength], exact=True
        )
        probs[held_out] = softmax(scaled[held_out] @ weight.T + bias, axis=1)
    return probs


def confident_learning(probs: np.ndarray, labels: np.ndarray) -> List[Tuple[int, int]]:
    """
    Return the rows of images that may have a wrong label, and the label that each may belong to
    (Northcutt et al. 2021, arXiv:1911.00068). The least probable label comes first.

    The threshold of a label is its mean probability over the images that have it. An image counts
    as the label with the largest probability of those that reach their thresholds. It is a suspect
    if this is not its label, and if its label is not the most probable one.

    # Parameters

    probs : `np.ndarray`
        `(n, classes)`, of images held out. Rows of NaN are left out.
    labels : `np.ndarray`
        Class indices `(n,)`.
    """
    known = ~np.isnan(probs).any(1)
    thresholds = np.full(probs.shape[1], np.inf)
    for label in np.unique(labels[known]):
        thresholds[label] = probs[known & (labels == label), label].mean(dtype=np.float64)
    confident = np.where(known[:, None] & (probs >= thresholds - 1e-6), probs, 0)
    counted = confident.argmax(1)
    suspect = known & confident.any(1) & (counted != labels)
    suspect[known] &= probs[known].argmax(1) != labels[known]
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort(probs[rows, labels[rows]], kind="stable")]
    return list(zip(rows.tolist(), counted[rows].tolist()))


def map_in_two_dimensions(
    vectors: np.ndarray, method: Optional[str] = None
) -> Tuple[np.ndarray, str]:
    """
    Return points `(n, 2)` for a map of the images, and the method, "umap" or "pca".

    The default is UMAP (McInnes et al. 2018, arXiv:1802.03426), with the cosine, if `umap-learn` is
    installed and there are 16 images or more, otherwise the two principal components. The seed is
    fixed. The map of a single image, or of equal vectors, is at the origin.
    """
    vectors = check_vectors(vectors)
    if method is None:
        method = "umap" if find_spec("umap") and len(vectors) > 15 else "pca"
    if method not in ("umap", "pca"):
        raise InputError(f"the method of the map is {method!r}; expected 'umap' or 'pca'")
    if method == "umap":
        from umap import UMAP

        return UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors), "umap"
    centred = (vectors - vectors.mean(0, dtype=np.float64)).astype(np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    points = np.zeros((len(vectors), 2), np.float32)
    points[:, : vectors.shape[1]] = centred @ directions[:, :-3:-1]
    return points, "pca"
