"""
The order in which a person sees images: those whose labels would teach most come first. All
functions take probabilities `(n, labels)` and vectors `(n, dim)`, and return rows.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from allencv.features.neighbours import nearest, normalized
from allencv.features.suspects import (
    NEIGHBOURS,
    find_label_suspects,
    find_outliers,
    held_out_probabilities,
    nearest_distances,
    outlier_threshold,
    why_useless,
    why_without_suspects,
)
from allencv.predictions.predictions_file import Predictions, likely_label_errors

CANDIDATES, PART = 250, 4
"""The most images among which some are chosen; of few images, it is the fourth part of them."""
CHOSEN = 10
"""Of the candidates, the tenth part is chosen."""
MOST_DIVERSE = 2000
"""The images in the order of `diverse_by_margin`; the others follow by margin alone."""
OUTLIER_EVERY = 5
"""Every fifth image is an outlier, as long as there are any."""


class LabelError(NamedTuple):
    """
    An image whose label may be wrong.

    # Parameters

    row : the image.
    suggestion : the class indices of the suggested labels.
    """

    row: int
    suggestion: List[int]


class LabelErrors(NamedTuple):
    """
    What `find_label_errors` returns.

    # Parameters

    errors : the images, the least probable label first.
    probs : `(n, classes)`: the probabilities that the errors were found with.
    note : why no errors were searched, or `None`.
    """

    errors: List[LabelError]
    probs: np.ndarray
    note: Optional[str]


def margins(probs: np.ndarray, thresholds: Optional[Sequence[float]] = None) -> np.ndarray:
    """
    Return how sure a model is of each image, `(n,)`: the difference between its two largest
    probabilities (Scheffer et al. 2001). If images may have several labels, it is the smallest
    distance of a probability from its threshold.
    """
    if thresholds is not None:
        return np.abs(probs - np.asarray(thresholds)).min(1)
    if probs.shape[1] == 1:
        return probs[:, 0]
    top = np.partition(probs, -2, axis=1)
    return top[:, -1] - top[:, -2]


def diverse_by_margin(margins: np.ndarray, vectors: np.ndarray) -> List[int]:
    """
    Return all rows, those with small margins first, and those that follow each other different.

    25 images at a time are chosen among the 250 with the smallest margins, as in Cluster-Margin
    (Citovsky et al. 2021, arXiv:2107.14263). Each is the one that is farthest from all that were
    chosen before: the greedy k-centre (Sener and Savarese 2018, arXiv:1708.00489), by the cosine.
    Of fewer than 1,000 images, the candidates are a quarter, and a tenth of these is chosen. After
    2,000 images, the order is that of the margins.
    """
    window = max(1, min(CANDIDATES, len(margins) // PART))
    batch = max(1, window // CHOSEN)
    left = np.argsort(margins, kind="stable")
    chosen: List[int] = []
    directions = np.empty((0, vectors.shape[1]), np.float32)
    while len(chosen) < MOST_DIVERSE and len(left):
        candidates = left[:window]
        block = normalized(vectors[candidates])
        # The largest cosine to a chosen image, -2 before there is one, 2 for one of these.
        cosines = (block @ directions.T).max(1, initial=-2)
        places: List[int] = []
        for _ in range(min(batch, len(candidates))):
            place = int(cosines.argmin())
            places.append(place)
            cosines = np.maximum(cosines, block @ block[place])
            cosines[place] = 2
        chosen += candidates[places].tolist()
        directions = np.concatenate([directions, block[places]])
        left = left[~np.isin(left, candidates[places])]
    return [*chosen, *left.tolist()]


def find_unlike(vectors: np.ndarray, labelled: Optional[np.ndarray] = None) -> List[int]:
    """
    Return the rows of images that are farther from the `labelled` ones `(m, dim)` than these are
    from each other (`outlier_threshold`), the farthest first. Without labelled images, those that
    are far from the others (`find_outliers`).
    """
    if labelled is None or len(labelled) <= 1:
        return find_outliers(nearest_distances(vectors))
    _, cosines = nearest(vectors, labelled, NEIGHBOURS)
    means = 1 - cosines.mean(1)
    far = np.flatnonzero(means > outlier_threshold(nearest_distances(labelled).mean(1)))
    return far[np.argsort(-means[far], kind="stable")].tolist()


def teaching_order(margins: np.ndarray, vectors: np.ndarray, unlike: Sequence[int]) -> List[int]:
    """
    Return all rows of images without labels in the order in which to show them:
    `diverse_by_margin`, with an image of `unlike` at every fifth place.
    """
    is_unlike = set(unlike)
    unsure = (row for row in diverse_by_margin(margins, vectors) if row not in is_unlike)
    outliers = iter(unlike)
    rows: List[int] = []
    while len(rows) < len(margins):
        is_turn = len(rows) % OUTLIER_EVERY == OUTLIER_EVERY - 1
        first, second = (outliers, unsure) if is_turn else (unsure, outliers)
        row = next(first, None)
        rows.append(next(second) if row is None else row)
    return rows


def find_label_errors(vectors: np.ndarray, labels: np.ndarray, classes: int) -> LabelErrors:
    """
    Find the images whose only label may be wrong, with a logistic regression of the vectors that
    is fitted without the image (`held_out_probabilities`, `confident_learning`).

    # Parameters

    labels : class indices `(n,)`; each class has an image.
    """
    note = why_without_suspects(labels, classes)
    if note is not None:
        return LabelErrors([], np.zeros((len(labels), classes), np.float32), note)
    probs = held_out_probabilities(vectors, labels, classes)
    note = why_useless(probs, labels)
    if note is not None:
        return LabelErrors([], probs, note)
    suspects = find_label_suspects(probs, labels)
    return LabelErrors([LabelError(each.row, [each.suggested]) for each in suspects], probs, None)


def find_multilabel_errors(probs: np.ndarray, has_label: np.ndarray) -> List[LabelError]:
    """
    Find the images that may lack a label or have a wrong one, each label alone, with the
    probabilities of the model (`likely_label_errors`).

    # Parameters

    has_label : `(n, labels)`, true where an image has a label.
    """
    targets = has_label.astype(bool)
    names = [str(number) for number in range(probs.shape[1])]
    suggested: Dict[int, np.ndarray] = {}
    for row, label in likely_label_errors(Predictions(names, [], probs, targets)):
        suggestion = suggested.setdefault(row, targets[row].copy())
        suggestion[label] = not suggestion[label]
    return [LabelError(row, np.flatnonzero(labels).tolist()) for row, labels in suggested.items()]
