from typing import Iterator, Sequence, Tuple

import numpy as np
import torch
from torch.nn import functional as F

Linear = Tuple[np.ndarray, np.ndarray]
"""The weight `(classes, dim)` and bias `(classes,)` of a linear layer, float32."""


def fit_logistic_regressions(
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: int,
    strengths: Sequence[float],
    exact: bool,
) -> Iterator[Linear]:
    """
    Fit a logistic regression for each strength. Each starts where the one before ended.

    The minimum is that of scikit-learn's `LogisticRegression` on vectors that are centred and
    divided by one number, their standard deviation over all dimensions. Both are folded into weight
    and bias. One number for all dimensions does not enlarge those that hardly vary, and is more
    accurate with few images. For two classes the logits are 0 and the decision function. If images
    have several labels, there is one regression for each. A label that all images have, or none,
    gets a weight of 0 and its smoothed log odds as bias.

    L-BFGS minimizes for all labels at once. With 5,000 vectors of 1,280 numbers, scikit-learn takes
    several times as long for a step, in its product with the transposed matrix.

    # Parameters

    vectors : `np.ndarray`
        `(n, dim)`, float32.
    labels : `np.ndarray`
        `(n,)`, each of the classes at least once; or 0 and 1 `(n, classes)`.
    strengths : `Sequence[float]`
        C of scikit-learn, in ascending order. The penalty is 1 / (2 C n) times the squared weights.
    exact : `bool`
        Whether to minimize in float64, to a gradient of 1e-7. Otherwise it is done in float32, to
        1e-4, which is enough to compare strengths.
    """
    mean = vectors.mean(0, dtype=np.float64)
    deviation = float(np.sqrt(vectors.var(0, dtype=np.float64).mean())) or 1.0
    single = labels.ndim == 1
    targets = np.eye(classes)[labels] if single else labels.astype(np.float64)
    if single and classes == 2:
        targets = targets[:, 1:]
    counts = targets.sum(0)
    varied = (counts > 0) & (counts < len(targets))
    dtype = torch.float64 if exact else torch.float32
    standardized = torch.from_numpy((vectors - mean) / deviation).to(dtype)
    wanted = torch.from_numpy(targets[:, varied]).to(dtype)
    # Shape: (classes, dim + 1). The last column is the bias.
    fitted = np.zeros((len(counts), vectors.shape[1] + 1))
    fitted[:, -1] = np.log((counts + 0.5) / (len(targets) - counts + 0.5))
    for strength in strengths:
        if varied.any():
            softmax = single and classes > 2
            fitted[varied] = _minimize(standardized, wanted, softmax, strength, fitted[varied])
        weight = fitted[:, :-1] / deviation
        bias = fitted[:, -1] - weight @ mean
        if single and classes == 2:
            weight, bias = np.vstack([0 * weight, weight]), np.append(0, bias)
        yield weight.astype(np.float32), bias.astype(np.float32)


def _minimize(
    vectors: torch.Tensor, targets: torch.Tensor, softmax: bool, strength: float, start: np.ndarray
) -> np.ndarray:
    """Return the weight and, as last column, the bias `(classes, dim + 1)` of the minimum."""
    from scipy.optimize import minimize

    penalty = 1 / (strength * len(vectors))

    def loss_and_gradient(flat: np.ndarray) -> Tuple[float, np.ndarray]:
        both = torch.from_numpy(flat).view(start.shape)
        weight, bias = both[:, :-1].to(vectors.dtype), both[:, -1].to(vectors.dtype)
        logits = vectors @ weight.T + bias
        if softmax:
            losses = logits.logsumexp(1) - (logits * targets).sum(1)
            probs = logits.softmax(1)
        else:
            losses = F.softplus(logits) - logits * targets
            probs = logits.sigmoid()
        rest = (probs - targets) / len(vectors)
        gradient = torch.empty_like(both)
        gradient[:, :-1] = rest.T @ vectors + penalty * weight
        gradient[:, -1] = rest.sum(0)
        loss = losses.double().sum() / len(vectors) + penalty / 2 * weight.double().square().sum()
        return float(loss), gradient.numpy().ravel()

    exact = vectors.dtype == torch.float64
    options = {"maxiter": 1000, "gtol": 1e-7 if exact else 1e-4, "ftol": 1e-15 if exact else 1e-7}
    found = minimize(loss_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(start.shape)
