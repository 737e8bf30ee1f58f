"""
Heads: classifiers of vectors that a frozen network gives, fitted in seconds.

Labels are class indices `(n,)`; or 0 and 1 for each label, `(n, classes)`, if images have several
labels.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from allencv.features.folds import SEED, choose_folds
from allencv.features.logistic_regression import find_scale, fit_logistic_regressions
from allencv.features.neighbours import nearest, normalized
from allencv.features.vector_checks import check_labels, check_vectors
from allencv.runtime.cpu_count import cpu_count
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
FITTED = 10_000
"""The most images that heads are fitted on in cross-validation."""
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
    exact: bool = True,
) -> Head:
    """
    Fit a head.

    Raises an `InputError` if numbers are NaN or infinite, if all vectors are equal, or if a class
    has no image. A label of several that all images have, or none, gets scores that do not depend
    on the vector: the log odds of its smoothed frequency.

    # Parameters

    kind : `str`
        "logistic_regression" is scikit-learn's on vectors that are centred and divided by one
        number (`find_scale`), folded into weight and bias. "nearest_class_mean" gives the
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
        C of scikit-learn, the factor of the cosine, or the number of neighbours. `choose_strength`
        chooses the default.
    exact : `bool`, optional (default = `True`)
        Whether a logistic regression is exact to about 1e-4 in the logits, rather than to a few
        hundredths in a third of the time.
    """
    _check_kind(kind, labels)
    vectors = check_vectors(vectors)
    check_labels(labels, len(vectors), classes, every_class=True)
    if len(vectors) > 1 and (vectors == vectors[0]).all():
        raise InputError(
            f"all {len(vectors)} vectors are equal; expected vectors that differ between images"
        )
    if strength is not None and strength <= 0:
        raise InputError(f"the strength of {kind} is {strength}; expected a number above 0")
    if kind == "logistic_regression":
        scale = find_scale(vectors)
        scaled = scale.apply(vectors)
        strength = strength or choose_strength(kind, scaled, labels, classes)
        (linear,) = fit_logistic_regressions(scaled, labels, classes, [strength], exact)
        return LinearHead(kind, strength, *scale.undo(linear))
    strength = strength or choose_strength(kind, vectors, labels, classes)
    if kind == "k_nearest_neighbours":
        return NeighbourHead(kind, strength, vectors, labels, classes)
    return next(_linear_heads(kind, vectors, labels, classes, [strength]))


def choose_strength(
    kind: str,
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    standard_errors: float = 1,
) -> float:
    """
    Choose a strength of `STRENGTHS` by the log loss of stratified cross-validation.

    For logistic regression it is the strongest regularization whose loss is within one standard
    error of the smallest (Breiman et al. 1984; Hastie et al. 2009, section 7.10): it is more
    accurate with few images. For the other kinds it is the one with the smallest loss.
    `choose_folds` makes the folds. About 2,000 images are held out at most, so there are fewer
    folds of many images, and heads are fitted on about 10,000 at most. If each class has one image,
    `DEFAULT_STRENGTHS` is used.

    # Parameters

    kind : `str`
    vectors : `np.ndarray`
        `(n, dim)`. For logistic regression these are the vectors on their `Scale`.
    labels : `np.ndarray`
        `(n,)` or `(n, classes)`
    classes : `int`
        The number of classes.
    standard_errors : `float`, optional (default = `1`)
        0 takes the smallest loss for logistic regression too, which gives the best probabilities.
    """
    from threadpoolctl import threadpool_limits

    folds, strengths = choose_folds(labels), STRENGTHS[kind]
    random = np.random.default_rng(SEED)
    divided: List[Tuple[np.ndarray, np.ndarray]] = []
    for fold in range(folds.max() + 1):
        train = random.permutation(np.flatnonzero(folds != fold))
        divided.append((train, random.permutation(np.flatnonzero(folds == fold))[:HELD_OUT]))
        if sum(len(held_out) for _, held_out in divided) >= HELD_OUT:
            break
    if not divided:
        return DEFAULT_STRENGTHS[kind]

    def losses_of(rows: Tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        train, held_out = np.sort(_some(rows[0], labels)), rows[1]
        return _losses_of_strengths(
            kind, vectors[train], labels[train], classes, vectors[held_out], labels[held_out]
        )

    # A thread for each fold: threads of BLAS would wait for each other.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cpu_count()) as threads:
        parts = list(threads.map(losses_of, divided))
    # Shape: (strengths, images)
    losses = np.concatenate(parts, axis=1)
    means = losses.mean(1)
    best = int(means.argmin())
    if kind == "logistic_regression":
        slack = standard_errors * losses[best].std() / np.sqrt(losses.shape[1])
        best = int(np.flatnonzero(means <= means[best] + slack)[0])
    return strengths[best]


def _some(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the first rows, as many as are enough to choose a strength, with every class."""
    if len(rows) <= FITTED or labels.ndim == 2:
        return rows[:FITTED]
    _, first = np.unique(labels[rows], return_index=True)
    return np.union1d(rows[:FITTED], rows[first])


def _losses_of_strengths(
    kind: str,
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    held_out: np.ndarray,
    truth: np.ndarray,
) -> np.ndarray:
    """
    Return the log loss `(strengths, images)` of held-out images. It is infinite for strengths after
    two that got worse one after the other.
    """
    strengths = STRENGTHS[kind]
    losses = np.full((len(strengths), len(truth)), np.inf)
    if kind == "k_nearest_neighbours":
        rows, cosines = nearest(held_out, vectors, int(max(strengths)))
        for place, strength in enumerate(strengths):
            part = slice(int(strength))
            losses[place] = log_losses(
                _votes(labels[rows[:, part]], cosines[:, part], classes), truth
            )
        return losses
    for place, head in enumerate(_linear_heads(kind, vectors, labels, classes, strengths)):
        losses[place] = log_losses(head.scores(held_out), truth)
        if place > 1:
            before, last, now = losses[place - 2 : place + 1].mean(1)
            if now > last > before:
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
    """Yield a head for each strength. A logistic regression is fitted roughly."""
    if kind == "logistic_regression":
        fitted = fit_logistic_regressions(vectors, labels, classes, strengths, exact=False)
        for strength, linear in zip(strengths, fitted):
            yield LinearHead(kind, strength, *linear)
        return
    directions = normalized(vectors)
    means = normalized(np.stack([directions[labels == label].mean(0) for label in range(classes)]))
    length = np.linalg.norm(vectors, axis=1).mean()
    for strength in strengths:
        weight = strength / length * means
        yield LinearHead(kind, strength, weight, np.zeros(classes, np.float32))
