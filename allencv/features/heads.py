"""
Heads: classifiers of vectors that a frozen network gives, fitted in seconds.

Labels are class indices `(n,)`; or 0 and 1 for each label, `(n, classes)`, if images have several
labels.
"""

from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Protocol, Sequence, Tuple

import numpy as np

from allencv.features.folds import SEED, choose_folds
from allencv.features.neighbours import nearest, normalized
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.errors import InputError

STRENGTHS: Dict[str, Tuple[float, ...]] = {
    "logistic_regression": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 10),
    "nearest_class_mean": (1, 2, 5, 10, 20, 50, 100),
    "k_nearest_neighbours": (1, 3, 5, 10, 20, 50),
}
"""
The kinds, and the strengths that are tried for each: C of scikit-learn, the factor of the cosine,
and k.
"""
DEFAULT_STRENGTHS = {
    "logistic_regression": 0.01,
    "nearest_class_mean": 20.0,
    "k_nearest_neighbours": 1.0,
}
"""The strengths where no image can be held out, because each class has one."""
HELD_OUT = 2000
"""Cross-validation ends once this number of images has been held out."""
TEMPERATURE = 0.07


class Head(Protocol):
    """A fitted classifier of vectors."""

    kind: str
    strength: float

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """
        Return logits `(n, classes)` for vectors `(n, dim)`. Their softmax, or their sigmoid if
        images have several labels, are probabilities.
        """


@dataclass
class LinearHead:
    """
    A head that can be the last layer of a network: `vectors @ weight.T + bias`.

    # Parameters

    weight : `np.ndarray`
        `(classes, dim)`, float32.
    bias : `np.ndarray`
        `(classes,)`, float32.
    """

    kind: str
    strength: float
    weight: np.ndarray
    bias: np.ndarray

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        return check_vectors(vectors) @ self.weight.T + self.bias


@dataclass
class NeighbourHead:
    """
    Votes of the `strength` training vectors that are most similar.

    # Parameters

    vectors : `np.ndarray`
        The training vectors `(n, dim)`.
    labels : `np.ndarray`
        Their class indices `(n,)`.
    """

    kind: str
    strength: float
    vectors: np.ndarray
    labels: np.ndarray
    classes: int

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        rows, cosines = nearest(vectors, self.vectors, int(self.strength))
        return _votes(self.labels[rows], cosines, self.classes)


def fit_head(
    kind: str,
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strength: Optional[float] = None,
) -> Head:
    """
    Fit a head.

    Raises an `InputError` if numbers are NaN or infinite, if all vectors are equal, or if a class
    has no image. A label of several that all images have, or none, gets scores that do not depend
    on the vector: the log odds of its smoothed frequency.

    # Parameters

    kind : `str`
        "logistic_regression" is that of `fit_logistic_regressions`. "nearest_class_mean" gives the
        product with the mean of the normalized vectors of each class, itself normalized (Mensink et
        al. 2013, with the cosine); and "k_nearest_neighbours" the votes of the vectors with the
        largest cosines, weighted by exp(cosine / 0.07) (Wu et al. 2018, arXiv:1805.01978). These
        two are for one label per image.
    vectors : `np.ndarray`
        `(n, dim)`
    labels : `np.ndarray`
        `(n,)` or `(n, classes)`
    classes : `int`
        The number of classes.
    strength : `float`, optional (default = `None`)
        C of scikit-learn, the factor of the cosine, or the number of neighbours. The default is the
        one of `STRENGTHS` with the smallest log loss in cross-validation (`choose_strength`).
    """
    _check_kind(kind, labels)
    vectors = check_vectors(vectors)
    check_labels(labels, len(vectors), classes, every_class=True)
    if len(vectors) > 1 and (vectors == vectors[0]).all():
        raise InputError(
            f"all {len(vectors)} vectors are equal; expected vectors that differ between images"
        )
    if strength is None:
        strength = choose_strength(kind, vectors, labels, classes)
    if strength <= 0:
        raise InputError(f"the strength of {kind} is {strength}; expected a number above 0")
    if kind == "k_nearest_neighbours":
        return NeighbourHead(kind, strength, vectors, labels, classes)
    return next(_linear_heads(kind, vectors, labels, classes, [strength]))


def choose_strength(kind: str, vectors: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """
    Return the strength of `STRENGTHS` with the smallest log loss in stratified cross-validation.

    `choose_folds` makes the folds. About 2,000 images are held out at most, so there are fewer
    folds of many images. If each class has one image, `DEFAULT_STRENGTHS` is used.
    """
    folds, strengths = choose_folds(labels), STRENGTHS[kind]
    random = np.random.default_rng(SEED)
    losses, seen = np.zeros(len(strengths)), 0
    for fold in range(folds.max() + 1):
        held_out = random.permutation(np.flatnonzero(folds == fold))[:HELD_OUT]
        train = folds != fold
        losses += _losses_of_strengths(
            kind, vectors[train], labels[train], classes, vectors[held_out], labels[held_out]
        )
        seen += len(held_out)
        if seen >= HELD_OUT:
            break
    return strengths[int(losses.argmin())] if seen else DEFAULT_STRENGTHS[kind]


def _losses_of_strengths(
    kind: str,
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    held_out: np.ndarray,
    truth: np.ndarray,
) -> np.ndarray:
    """
    Return the summed log loss of held-out images for each strength. It is infinite for those after
    two that got worse one after the other.
    """
    strengths = STRENGTHS[kind]
    losses = np.full(len(strengths), np.inf)
    if kind == "k_nearest_neighbours":
        rows, cosines = nearest(held_out, vectors, int(max(strengths)))
        for place, strength in enumerate(strengths):
            part = slice(int(strength))
            scores = _votes(labels[rows[:, part]], cosines[:, part], classes)
            losses[place] = log_losses(scores, truth).sum()
        return losses
    for place, head in enumerate(_linear_heads(kind, vectors, labels, classes, strengths)):
        losses[place] = log_losses(head.scores(held_out), truth).sum()
        if place > 1 and losses[place] > losses[place - 1] > losses[place - 2]:
            break
    return losses


def log_losses(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the log loss `(n,)` of each image; with several labels, the sum over them."""
    if labels.ndim == 2:
        return np.logaddexp(0, np.where(labels == 1, -scores, scores)).sum(1)
    from scipy.special import log_softmax

    return -log_softmax(scores, axis=1)[np.arange(len(labels)), labels]


def _check_kind(kind: str, labels: np.ndarray) -> None:
    kinds = list(STRENGTHS) if labels.ndim == 1 else ["logistic_regression"]
    if kind not in kinds:
        several = "" if labels.ndim == 1 else ", as images have several labels"
        raise InputError(f"the kind of head is {kind!r}; expected {' or '.join(kinds)}{several}")


def _votes(labels: np.ndarray, cosines: np.ndarray, classes: int) -> np.ndarray:
    """
    Return the logarithm of the shares `(n, classes)` of votes of the neighbours `(n, k)`. The
    nearest has one vote, and one more is divided among all classes, so that no share is 0.
    """
    weights = np.exp((cosines - cosines[:, :1]) / TEMPERATURE)
    votes = np.full((len(labels), classes), 1 / classes)
    for column in range(labels.shape[1]):
        votes[np.arange(len(labels)), labels[:, column]] += weights[:, column]
    return np.log(votes / votes.sum(1, keepdims=True)).astype(np.float32)


def _linear_heads(
    kind: str, vectors: np.ndarray, labels: np.ndarray, classes: int, strengths: Sequence[float]
) -> Iterator[LinearHead]:
    """Yield a head for each strength."""
    if kind == "logistic_regression":
        from allencv.features.logistic_regression import fit_logistic_regressions

        exact = len(strengths) == 1
        for strength, (weight, bias) in zip(
            strengths, fit_logistic_regressions(vectors, labels, classes, strengths, exact)
        ):
            yield LinearHead(kind, strength, weight, bias)
        return
    directions = normalized(vectors)
    means = normalized(np.stack([directions[labels == label].mean(0) for label in range(classes)]))
    length = np.linalg.norm(vectors, axis=1).mean()
    for strength in strengths:
        weight = strength / length * means
        yield LinearHead(kind, strength, weight, np.zeros(classes, np.float32))
