"""Fits heads of every kind on the vectors of several backbones, and ranks them."""

import time
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple

import numpy as np

from allencv.common.wilson_interval import wilson_interval
from allencv.features.folds import SEED
from allencv.features.heads import (
    DEFAULT_STRENGTHS,
    FITTED,
    STRENGTHS,
    Head,
    LinearHead,
    fit_head,
)
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.errors import InputError

FIRST_ROUND = 1000
"""The number of training images in the first round, about."""
RESAMPLES = 200


@dataclass
class RankedHead:
    """
    A head and its score on the validation images: accuracy, or macro average precision if images
    have several labels.

    # Parameters

    score, low, high : `float`
        The score, and the ends of its 95 % interval.
    seconds : `float`
        The time for the fit, with the choice of the strength.
    images : `int`
        The number of training images that it was fitted on. It is smaller than that of all for a
        head that was dropped in the first round.
    dropped : `str`, optional
        Why the head was dropped; `None` if it was fitted on all training images.
    """

    backbone: str
    head: Head
    score: float
    low: float
    high: float
    seconds: float
    images: int
    dropped: Optional[str] = None


def rank_heads(
    train: Mapping[str, np.ndarray],
    labels: np.ndarray,
    validation: Mapping[str, np.ndarray],
    validation_labels: np.ndarray,
    classes: int,
    seconds: Optional[float] = None,
) -> List[RankedHead]:
    """
    Fit all kinds of heads on the vectors of all backbones, and rank them by their scores on the
    validation images: first those fitted on all training images, the best one first.

    With more than 2,000 training images there is a first round on about 1,000 of them, drawn by
    class. A head goes on if its interval reaches the best score of that round, and so does the best
    linear head, the only kind that can be part of a network. The score of the first in the ranking
    is slightly optimistic, because it was chosen by it. With more than 10,000 training images
    logistic regressions are fitted roughly, which is enough to compare them.

    # Parameters

    train, validation : `Mapping[str, np.ndarray]`
        The vectors `(n, dim)` of the images, by the name of the backbone.
    labels, validation_labels : `np.ndarray`
        Class indices `(n,)`, or 0 and 1 for each label, `(n, classes)`.
    classes : `int`
        The number of classes.
    seconds : `float`, optional (default = `None`)
        No fit on all images starts after this time, except the first. The best heads of the first
        round are fitted first.
    """
    if not train or train.keys() != validation.keys():
        raise InputError(
            f"there are vectors of {', '.join(train) or 'no backbone'} for training and of "
            f"{', '.join(validation) or 'no backbone'} for validation; expected the same backbones"
        )
    for vectors in validation.values():
        check_labels(validation_labels, len(check_vectors(vectors)), classes)
    if not validation_labels.any() and validation_labels.ndim == 2:
        raise InputError("no validation image has a label; expected one or more")
    began = time.monotonic()
    kinds = list(STRENGTHS) if labels.ndim == 1 else ["logistic_regression"]
    candidates = [(backbone, kind) for backbone in train for kind in kinds]
    ranking: List[RankedHead] = []

    def fit(backbone: str, kind: str, rows: np.ndarray, strength: Optional[float]) -> RankedHead:
        start = time.monotonic()
        exact = len(rows) <= FITTED
        head = fit_head(kind, train[backbone][rows], labels[rows], classes, strength, exact)
        taken = time.monotonic() - start
        scores = head.scores(validation[backbone])
        value, low, high = score_interval(scores, validation_labels)
        return RankedHead(backbone, head, value, low, high, taken, len(rows))

    if len(labels) > 2 * FIRST_ROUND and len(candidates) > 1:
        rows = draw_by_class(labels, FIRST_ROUND / len(labels), SEED)
        ranking = sorted(
            (fit(backbone, kind, rows, DEFAULT_STRENGTHS[kind]) for backbone, kind in candidates),
            key=_rank,
        )
        linear = next(each for each in ranking if isinstance(each.head, LinearHead))
        for each in ranking:
            if each.high < ranking[0].score and each is not linear:
                each.dropped = (
                    f"at most {each.high:.1%} with {each.images} images, where the best has "
                    f"{ranking[0].score:.1%}"
                )
        candidates = [(each.backbone, each.head.kind) for each in ranking if not each.dropped]
    finals: List[RankedHead] = []
    for backbone, kind in candidates:
        if finals and seconds is not None and time.monotonic() - began > seconds:
            break
        finals.append(fit(backbone, kind, np.arange(len(labels)), None))
    done = {(each.backbone, each.head.kind) for each in finals}
    rest = [each for each in ranking if (each.backbone, each.head.kind) not in done]
    for each in rest:
        each.dropped = each.dropped or "no time was left"
    return sorted(finals, key=_rank) + rest


def _rank(each: RankedHead) -> Tuple[float, bool]:
    """Linear heads come before neighbours of the same score: they can be part of a network."""
    return -each.score, each.head.kind == "k_nearest_neighbours"


def draw_by_class(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """
    Draw the rows of a fraction of the images, sorted: of each class the fraction of its images,
    rounded, and at least one. With several labels per image, the fraction of all images.
    """
    random = np.random.default_rng(seed)
    if labels.ndim == 2:
        groups = [np.arange(len(labels))]
    else:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    parts = [random.permutation(rows)[: max(1, round(fraction * len(rows)))] for rows in groups]
    return np.sort(np.concatenate(parts))


def score_interval(scores: np.ndarray, labels: np.ndarray) -> Tuple[float, float, float]:
    """
    Return a score and the ends of its 95 % interval.

    With class indices `(n,)`: the accuracy, and Wilson's interval (1927). With 0 and 1 for each
    label, `(n, classes)`: the mean of the labels' average precision, over those with an image, and
    the percentiles of 200 bootstrap samples with a fixed seed.
    """
    if labels.ndim == 1:
        right = int((scores.argmax(1) == labels).sum())
        return right / len(labels), *wilson_interval(right, len(labels))
    value = macro_average_precision(scores, labels)
    random = np.random.default_rng(SEED)
    samples = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, len(labels), len(labels))
        samples.append(macro_average_precision(scores[rows], labels[rows]))
    low, high = np.nanpercentile(samples, [2.5, 97.5])
    return value, float(low), float(high)


def macro_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean average precision of the labels that an image has; NaN without any."""
    from sklearn.metrics import average_precision_score

    precisions = [
        average_precision_score(truth, score)
        for truth, score in zip(labels.T, scores.T)
        if truth.any()
    ]
    return float(np.mean(precisions)) if precisions else float("nan")
