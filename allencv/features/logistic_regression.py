"""Fit logistic regressions of vectors with scikit-learn, as linear layers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Iterator, Sequence, Tuple

import numpy as np

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Linear = Tuple[np.ndarray, np.ndarray]
"""The weight `(classes, dim)` and bias `(classes,)` of a linear layer, float32."""


@dataclass
class Scale:
    """
    Centres vectors and divides them by one number. One number for all dimensions does not enlarge
    those that hardly vary, and is more accurate with few images.

    # Parameters

    mean : `np.ndarray`
        `(dim,)`, float32.
    deviation : `float`
        The standard deviation over all dimensions.
    """

    mean: np.ndarray
    deviation: float

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors `(n, dim)`, float32, on this scale."""
        return (vectors - self.mean) / np.float32(self.deviation)

    def undo(self, linear: Linear) -> Linear:
        """Return the linear layer for vectors that equals this one for scaled vectors."""
        weight = linear[0].astype(np.float64) / self.deviation
        return weight.astype(np.float32), (linear[1] - weight @ self.mean).astype(np.float32)


def find_scale(vectors: np.ndarray) -> Scale:
    """Return the scale of vectors `(n, dim)`, float32."""
    mean = vectors.mean(0, dtype=np.float64)
    deviation = float(np.sqrt(vectors.var(0, dtype=np.float64).mean())) or 1.0
    return Scale(mean.astype(np.float32), deviation)


def fit_logistic_regressions(
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    exact: bool,
) -> Iterator[Linear]:
    """
    Fit a logistic regression for each strength. Each starts where the one before ended.

    For two classes the logits are 0 and the decision function. If images have several labels, there
    is one regression for each. A label that all images have, or none, gets a weight of 0 and its
    smoothed log odds as bias.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`, float32, on their `Scale`.
    labels : `np.ndarray`
        `(n,)`, each of the classes at least once; or 0 and 1 `(n, classes)`.
    strengths : `Sequence[float]`
        C of scikit-learn, in ascending order.
    exact : `bool`
        Whether to minimize in float64, to about 1e-4 in the logits. Otherwise it is done in
        float32, to a few hundredths, which is enough to compare strengths.
    """
    from sklearn.linear_model import LogisticRegression

    targets = [labels] if labels.ndim == 1 else list(labels.T)
    passes = [(vectors, 1e-4)]
    if exact:  # from where float32 ends, which takes half the time of an iteration
        passes.append((vectors.astype(np.float64), 1e-8))
    models = [LogisticRegression(max_iter=5000, warm_start=True) for _ in targets]
    for strength in strengths:
        for inputs, tolerance in passes:
            layers = [
                _fit(model.set_params(C=strength, tol=tolerance), inputs, target)
                for model, target in zip(models, targets)
            ]
        weight = np.concatenate([layer[0] for layer in layers]).astype(np.float32)
        bias = np.concatenate([layer[1] for layer in layers]).astype(np.float32)
        if labels.ndim == 1 and classes == 2:
            weight, bias = np.vstack([0 * weight, weight]), np.append(np.float32(0), bias)
        yield weight, bias


def _fit(model: "LogisticRegression", inputs: np.ndarray, target: np.ndarray) -> Linear:
    if (target == target[0]).all():
        count = len(target) * float(target[0])
        odds = np.log((count + 0.5) / (len(target) - count + 0.5))
        return np.zeros((1, inputs.shape[1])), np.array([odds])
    from threadpoolctl import threadpool_limits

    # Threads of BLAS wait for each other in each iteration, and beside other programs for long:
    # with two threads on two busy cores, a fit took 13 times as long as with one.
    with threadpool_limits(1, user_api="blas"):
        model.fit(inputs, target)
    return model.coef_, model.intercept_
