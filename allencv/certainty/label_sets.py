"""Find the limits with which sets of labels hold the right label as often as was asked for."""

import math
from typing import List, Sequence, Tuple

import numpy as np

from allencv.runtime.certainty.blocks import in_blocks
from allencv.runtime.certainty.label_sets import LabelSets, penalties, ranked

SINGLE_LABEL_KINDS = ("lac", "aps", "raps")
EVERY_LABEL = 1e9
"""A limit above every score, where there are too few images for a smaller one."""
PENALTIES = (0.0, 0.001, 0.01, 0.1, 0.5)
"""Those of which "raps" takes the one with the smallest sets."""
TUNED_SHARE = 0.2
"""The share of the images on which "raps" chooses its penalty; its limits are from the others."""


def fit_label_sets(
    probabilities: np.ndarray,
    targets: np.ndarray,
    levels: Sequence[float],
    kind: str = "lac",
    by_class: bool = False,
    seed: int = 0,
) -> LabelSets:
    """
    Return sets of labels by split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates
    2023, arXiv:2107.07511). On images drawn as those given, in any order, a set holds the right
    label with a probability of at least its level.

    # Parameters

    probabilities : `np.ndarray`
        `(images, labels)`, calibrated.
    targets : `np.ndarray`
        `(images,)`, the right labels.
    kind : `str`, optional (default = `"lac"`)
        "lac" has the smallest sets on average; "aps" and "raps" have larger ones for difficult
        images and smaller ones for easy images.
    by_class : `bool`, optional (default = `False`)
        Whether the levels hold for the images of each label, not only for all together. A label
        with few images is then in every set: it needs level / (1 - level) of them.
    seed : `int`, optional (default = `0`)
        Of the random numbers of "aps" and "raps", which part ties among sums.
    """
    penalty, free_ranks = 0.0, 0
    if kind == "raps":
        random = np.random.RandomState(seed)
        is_tuned = random.permutation(len(targets)) < TUNED_SHARE * len(targets)
        tuned = probabilities[is_tuned], targets[is_tuned]
        penalty, free_ranks = _best_penalty(*tuned, levels[0])
        probabilities, targets = probabilities[~is_tuned], targets[~is_tuned]
    scores = label_scores(probabilities, targets, kind, penalty, free_ranks, seed)
    groups = (
        [scores[targets == label] for label in range(probabilities.shape[1])]
        if by_class
        else [scores]
    )
    limits = [[conformal_quantile(group, level) for group in groups] for level in levels]
    return LabelSets(kind, list(levels), limits, penalty, free_ranks)


def label_scores(
    probabilities: np.ndarray,
    targets: np.ndarray,
    kind: str,
    penalty: float = 0.0,
    free_ranks: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """
    Return how little each image agrees with its label, `(images,)`: for "lac" 1 - its probability;
    for "aps" and "raps" the sum of the probabilities of the labels before it, plus a random share
    of its own.
    """
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    if kind == "lac":
        return 1 - own
    added = penalties(probabilities.shape[1], penalty, free_ranks)

    def scored(rows: np.ndarray, targets: np.ndarray, less: np.ndarray) -> np.ndarray:
        order, sums = ranked(rows)
        return _own_sums(order, sums + added, targets, less)

    return in_blocks(scored, probabilities, targets, _random_share(own, seed))


def _random_share(own: np.ndarray, seed: int) -> np.ndarray:
    return np.random.RandomState(seed).uniform(size=len(own)) * own


def _own_sums(
    order: np.ndarray, sums: np.ndarray, targets: np.ndarray, less: np.ndarray
) -> np.ndarray:
    """Return the sum through the label of each image, less a share of this label."""
    rows, places = np.arange(len(targets)), _places(order, targets)
    before = np.where(places > 0, sums[rows, places - 1], 0.0)
    # A set takes a label if the sum before it is within the limit, so rounding must not fall below.
    return np.maximum(sums[rows, places] - less, before)


def _places(order: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the place of the label of each image, 0 for the most probable."""
    return (order == targets[:, None]).argmax(axis=1)


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """
    Return the ceil((n + 1) * level)-th smallest of n scores: a further score drawn alike is at most
    this with a probability of at least `level`. Return `EVERY_LABEL` if n is too small.
    """
    place = math.ceil((len(scores) + 1) * level - 1e-9)
    if place > len(scores):
        return EVERY_LABEL
    return float(np.sort(scores)[place - 1])


def fewest_for(level: float) -> int:
    """Return the fewest scores with which `conformal_quantile` is one of them."""
    return math.ceil(level / (1 - level) - 1e-9)


def fit_missed_labels(
    probabilities: np.ndarray, targets: np.ndarray, levels: Sequence[float]
) -> LabelSets:
    """
    Return sets of labels, for images with several, that hold on average at least the share `level`
    of the labels of an image (conformal risk control, Angelopoulos et al. 2024, arXiv:2208.02814).

    # Parameters

    probabilities : `np.ndarray`
        `(images, labels)`, calibrated.
    targets : `np.ndarray`
        `(images, labels)`, true where an image has a label. Images without labels miss none.
    """
    count = len(targets)
    # With the limit at a label's 1 - probability, this label and more probable ones are taken.
    images, labels = np.nonzero(targets)
    needed = 1 - probabilities[images, labels].astype(np.float64)
    share = 1 / targets.sum(axis=1)[images]
    order = np.argsort(needed, kind="stable")
    found = np.cumsum(share[order])
    total = found[-1] if len(found) else 0.0
    limits: List[List[float]] = []
    for level in levels:
        # (missed + 1) / (count + 1) <= 1 - level
        most_missed = (1 - level) * (count + 1) - 1
        enough = np.nonzero(total - found <= most_missed + 1e-9)[0]
        if most_missed < -1e-9:
            limits.append([EVERY_LABEL])
        elif total <= most_missed + 1e-9:
            limits.append([0.0])
        else:
            limits.append([float(needed[order][enough[0]])])
    return LabelSets("missed", list(levels), limits)


def _best_penalty(
    probabilities: np.ndarray, targets: np.ndarray, level: float
) -> Tuple[float, int]:
    """Return the penalty of "raps" with the smallest sets, and the number of places without it."""
    order, sums = ranked(probabilities)
    free_ranks = int(np.quantile(_places(order, targets) + 1, level, method="higher"))
    own = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    less = _random_share(own, seed=0)

    def size(penalty: float) -> float:
        raised = sums + penalties(probabilities.shape[1], penalty, free_ranks)
        limit = conformal_quantile(_own_sums(order, raised, targets, less), level)
        # A set has the most probable label, and each that follows a sum within the limit.
        return float((raised[:, :-1] <= limit).sum(axis=1).mean())

    return min(PENALTIES, key=size), free_ranks
