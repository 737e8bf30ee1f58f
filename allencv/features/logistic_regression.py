"""
Fits logistic regressions of vectors: on their principal axes, where few steps are needed.
"""

from dataclasses import dataclass
from typing import Iterator, Sequence, Tuple

import numpy as np
import torch
from torch.nn import functional as F

Linear = Tuple[np.ndarray, np.ndarray]
"""The weight `(classes, dim)` and bias `(classes,)` of a linear layer, float32."""
MEMORY = 30
"""The number of past steps that L-BFGS keeps."""
SMALLEST_VARIANCE = 1e-10
"""Axes with less variance than this share of the largest are left out."""


@dataclass
class PrincipalAxes:
    """
    Centres vectors, divides them by one number, and rotates them so that their columns are
    uncorrelated.

    A penalty on squared weights is the same after a rotation. With fewer images than dimensions
    there are fewer axes than dimensions, and nothing is lost: such a penalty leaves no weight
    outside the span of the images.

    # Parameters

    mean : `np.ndarray`
        `(dim,)`, float64.
    axes : `np.ndarray`
        `(dim, axes)`, float64: orthogonal columns, each of length 1 / standard deviation.
    """

    mean: np.ndarray
    axes: np.ndarray

    def rotate(self, vectors: np.ndarray) -> np.ndarray:
        """Return the coordinates `(n, axes)`, float32, of vectors `(n, dim)`."""
        return (vectors - self.mean.astype(np.float32)) @ self.axes.astype(np.float32)

    def undo(self, linear: Linear) -> Linear:
        """Return the linear layer for vectors that equals this one for coordinates."""
        weight = linear[0] @ self.axes.T
        return weight.astype(np.float32), (linear[1] - weight @ self.mean).astype(np.float32)


def find_principal_axes(vectors: np.ndarray) -> PrincipalAxes:
    """
    Find the principal axes of vectors `(n, dim)`, float32.

    The divisor is the standard deviation over all dimensions. One number for all of them does not
    enlarge those that hardly vary, and is more accurate with few images.
    """
    mean = vectors.mean(0, dtype=np.float64)
    centred = torch.from_numpy(vectors - mean.astype(np.float32))
    deviation = float(centred.square().mean(0).mean().sqrt()) or 1.0
    if len(vectors) < vectors.shape[1]:
        # The axes from the products of the images, of which there are fewer.
        rows = centred.double()
        variances, directions = torch.linalg.eigh(rows @ rows.T)
        kept = variances > SMALLEST_VARIANCE * max(float(variances[-1]), 1e-30)
        axes = rows.T @ (directions[:, kept] / variances[kept].sqrt())
    else:
        _, axes = torch.linalg.eigh((centred.T @ centred).double())
    return PrincipalAxes(mean, axes.numpy() / deviation)


def fit_logistic_regressions(
    coordinates: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    exact: bool,
) -> Iterator[Linear]:
    """
    Fit a logistic regression for each strength. Each starts where the one before ended.

    The minimum is that of scikit-learn's `LogisticRegression`, on any vectors. It is found quickly
    on the coordinates of `PrincipalAxes`: L-BFGS takes steps in units of each column's curvature,
    about a third of the number that it takes otherwise. For two classes the logits are 0 and the
    decision function. If images have several labels, there is one regression for each. A label that
    all images have, or none, gets a weight of 0 and its smoothed log odds as bias.

    # Parameters

    coordinates : `np.ndarray`
        `(n, dim)`, float32.
    labels : `np.ndarray`
        `(n,)`, each of the classes at least once; or 0 and 1 `(n, classes)`.
    strengths : `Sequence[float]`
        C of scikit-learn, in ascending order. The penalty is 1 / (2 C n) times the squared weights.
    exact : `bool`
        Whether to minimize in float64, to about 1e-4 in the logits. Otherwise it is done
        in float32, to a few hundredths, which is enough to compare strengths.
    """
    single = labels.ndim == 1
    targets = np.eye(classes)[labels] if single else labels.astype(np.float64)
    if single and classes == 2:
        targets = targets[:, 1:]
    counts = targets.sum(0)
    varied = (counts > 0) & (counts < len(targets))
    inputs = torch.from_numpy(coordinates)
    # The first steps of an exact fit are in float32 too, because they take half of the time.
    stages = [inputs, inputs.double()] if exact else [inputs]
    wanted = torch.from_numpy(targets[:, varied])
    # Shape: (classes, dim + 1). The last column is the bias.
    fitted = np.zeros((len(counts), coordinates.shape[1] + 1))
    fitted[:, -1] = np.log((counts + 0.5) / (len(targets) - counts + 0.5))
    for strength in strengths:
        if varied.any():
            softmax = single and classes > 2
            for stage in stages:
                fitted[varied] = _minimize(
                    stage, wanted.to(stage.dtype), softmax, strength, fitted[varied]
                )
        weight, bias = fitted[:, :-1].astype(np.float32), fitted[:, -1].astype(np.float32)
        if single and classes == 2:
            weight, bias = np.vstack([0 * weight, weight]), np.append(np.float32(0), bias)
        yield weight, bias


def _minimize(
    inputs: torch.Tensor, targets: torch.Tensor, softmax: bool, strength: float, start: np.ndarray
) -> np.ndarray:
    """Return the weight and, as last column, the bias `(classes, dim + 1)` of the minimum."""
    from scipy.optimize import minimize

    penalty = 1 / (strength * len(inputs))
    # The curvature of each number, where the probabilities are the shares of the classes.
    shares = targets.double().mean(0)
    variances = torch.cat([inputs.var(0, correction=0).double(), torch.ones(1).double()])
    curvature = (shares * (1 - shares))[:, None] * variances
    curvature[:, :-1] += penalty
    scale = curvature.rsqrt()

    def loss_and_gradient(flat: np.ndarray) -> Tuple[float, np.ndarray]:
        both = torch.from_numpy(flat).view(scale.shape) * scale
        weight, bias = both[:, :-1].to(inputs.dtype), both[:, -1].to(inputs.dtype)
        logits = inputs @ weight.T + bias
        if softmax:
            losses = logits.logsumexp(1) - (logits * targets).sum(1)
            probs = logits.softmax(1)
        else:
            losses = F.softplus(logits) - logits * targets
            probs = logits.sigmoid()
        rest = (probs - targets) / len(inputs)
        gradient = torch.cat([rest.T @ inputs + penalty * weight, rest.sum(0)[:, None]], dim=1)
        loss = losses.double().sum() / len(inputs) + penalty / 2 * weight.double().square().sum()
        return float(loss), (gradient * scale).numpy().ravel()

    exact = inputs.dtype == torch.float64
    found = minimize(
        loss_and_gradient,
        (start / scale.numpy()).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={
            "maxiter": 1000,
            "maxcor": MEMORY,
            "gtol": 1e-8 if exact else 3e-4,
            "ftol": 1e-15 if exact else 1e-6,
        },
    )
    return found.x.reshape(start.shape) * scale.numpy()
