"""Finds images that may not belong where they are, from their vectors `(n, dim)`."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import List, Optional, Tuple

import numpy as np

from allencv.features.folds import SEED, choose_folds
from allencv.features.heads import choose_strength
from allencv.features.logistic_regression import find_scale, fit_logistic_regressions
from allencv.features.neighbours import BLOCK, nearest
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.predictions.label_errors import confident_learning
from allencv.runtime.errors import InputError

NEIGHBOURS = 10
FENCE = 3.0
LEAST_NEAR = 0.85
"""The least cosine of near copies. docs/check_data.md says how it was chosen."""
MOST_CLASSES = 1000
"""Of more classes, the classifier of label suspects would take hours."""
LARGEST_SAMPLE = 20_000
"""The most images that one is compared with, and that a regression is fitted on."""


def nearest_distances(vectors: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """
    Return the cosine distances `(n, neighbours)`, from 0 to 2, of each image to its nearest images,
    in ascending order. There are fewer columns if there are fewer others, and none for one image.

    Of many images, each is compared with 20,000 drawn at random (Sugiyama and Borgwardt 2013), so
    that the time grows with the number of images and not with its square.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`
    neighbours : `int`, optional (default = `10`)
        1 or more.
    """
    if len(vectors) == 1:
        return np.empty((1, 0), np.float32)
    sample = sample_rows(len(vectors), LARGEST_SAMPLE)
    own_rows = np.full(len(vectors), -1)
    own_rows[sample] = np.arange(len(sample))
    _, cosines = nearest(vectors, vectors[sample], neighbours, own_rows)
    return 1 - cosines


def sample_rows(images: int, most: int) -> np.ndarray:
    """Return `most` rows drawn at random, or all if there are fewer, sorted. The seed is fixed."""
    if images <= most:
        return np.arange(images)
    return np.sort(np.random.default_rng(SEED).choice(images, most, replace=False))


def find_outliers(distances: np.ndarray) -> List[int]:
    """
    Return the rows of outliers, the farthest first. An image is one if its mean distance to the
    nearest images (Angiulli and Pizzuti 2002) is more than 3 interquartile ranges above the upper
    quartile (Tukey 1977, "far out").

    # Parameters

    distances : `np.ndarray`
        `(n, neighbours)`, from `nearest_distances`.
    """
    if not distances.size:
        return []
    means = distances.mean(1)
    far = np.flatnonzero(means > outlier_threshold(means))
    return far[np.argsort(-means[far], kind="stable")].tolist()


def outlier_threshold(means: np.ndarray) -> float:
    """
    Return the mean distance above which an image is an outlier among images with these mean
    distances `(n,)` to their nearest images.
    """
    lower, upper = np.percentile(means, [25, 75])
    return float(upper + FENCE * (upper - lower)) + 1e-5  # float32's rounding


def near_copy_threshold(distances: np.ndarray) -> float:
    """
    Return the cosine from which two images are near copies: 0.85, or more if the network gives
    most images similar vectors, as one that was trained on their labels does.

    Near copies are then nearer than images usually are to their tenth nearest one: the logarithm of
    their distance is more than 3 interquartile ranges below the lower quartile. The tenth, because
    there may be several copies of most images.

    # Parameters

    distances : `np.ndarray`
        `(n, neighbours)`, from `nearest_distances`. The last column is used.
    """
    if distances.shape[1] < NEIGHBOURS:
        return LEAST_NEAR
    logarithms = np.log(np.maximum(distances[:, -1], 1e-6))
    lower, upper = np.percentile(logarithms, [25, 75])
    return max(LEAST_NEAR, 1 - float(np.exp(lower - FENCE * (upper - lower))))


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


def find_label_suspects(probs: np.ndarray, labels: np.ndarray) -> List[LabelSuspect]:
    """
    Return images that may have a wrong label, the least probable label first: those of
    `confident_learning`.

    # Parameters

    probs : `np.ndarray`
        `(n, classes)`, from `held_out_probabilities`.
    labels : `np.ndarray`
        Class indices `(n,)`.
    """
    return [
        LabelSuspect(
            row, int(labels[row]), other, float(probs[row, labels[row]]), float(probs[row, other])
        )
        for row, other in confident_learning(probs, labels)
    ]


def why_without_suspects(labels: np.ndarray, classes: int) -> Optional[str]:
    """
    Return why `held_out_probabilities` of images with these class indices `(n,)` would say nothing,
    or `None` if they do.
    """
    if classes < 2:
        return "there are fewer than two classes"
    if classes > MOST_CLASSES:
        return f"there are {classes} classes, more than {MOST_CLASSES}"
    if np.bincount(labels).max() < 2:
        return "no class has two images"
    return None


def held_out_probabilities(vectors: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """
    Return the probabilities `(n, classes)` of each image from a logistic regression that was fitted
    without its fold. They are NaN for an image that is never held out, because no other has its
    label (`choose_folds`).

    Each regression is fitted on at most 20,000 images. Of more, the largest classes lose some.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`
    labels : `np.ndarray`
        Class indices `(n,)`. Each class must have an image.
    """
    from scipy.special import softmax

    check_labels(labels, len(vectors), classes, every_class=True)
    order, folds = _evenly(labels), choose_folds(labels)
    first = np.sort(order[:LARGEST_SAMPLE])
    scale = find_scale(check_vectors(vectors[first]))
    strength = choose_strength(
        "logistic_regression",
        scale.apply(vectors[first]),
        labels[first],
        classes,
        standard_errors=0,
    )
    probs = np.full((len(vectors), classes), np.nan, np.float32)
    for fold in range(folds.max() + 1):
        train = np.sort(order[folds[order] != fold][:LARGEST_SAMPLE])
        ((weight, bias),) = fit_logistic_regressions(
            scale.apply(vectors[train]), labels[train], classes, [strength], exact=False
        )
        held_out = np.flatnonzero(folds == fold)
        for start in range(0, len(held_out), BLOCK):
            rows = held_out[start : start + BLOCK]
            scaled = scale.apply(check_vectors(vectors[rows]))
            probs[rows] = softmax(scaled @ weight.T + bias, axis=1)
    return probs


def why_useless(probs: np.ndarray, labels: np.ndarray) -> Optional[str]:
    """
    Return why the classifier of `held_out_probabilities` is no help, or `None` if it is right more
    often than the largest class alone.
    """
    accuracy = held_out_accuracy(probs, labels)
    judged = labels[~np.isnan(probs[:, 0])]
    largest = float(np.bincount(judged).max() / len(judged))
    if accuracy > largest:
        return None
    return (
        f"the classifier is right for only {accuracy:.0%} of the images, and the largest class has "
        f"{largest:.0%}"
    )


def held_out_accuracy(probs: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of `held_out_probabilities` on the images that were held out."""
    judged = ~np.isnan(probs[:, 0])
    return float((probs[judged].argmax(1) == labels[judged]).mean())


def _evenly(labels: np.ndarray) -> np.ndarray:
    """Return all rows in random order: one of each class, then another of each, and so on."""
    random = np.random.default_rng(SEED)
    turn = np.empty(len(labels), int)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turn[random.permutation(rows)] = np.arange(len(rows))
    return np.lexsort((random.random(len(labels)), turn))


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
