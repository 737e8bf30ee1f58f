"""Compare probabilities with how often they are right."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

BINS = 10


@dataclass(frozen=True)
class Bin:
    """
    The predictions with a confidence above `lower` and at most `upper`.

    # Parameters

    count : their number.
    confidence : the mean confidence.
    accuracy, interval : the share that is right, and its 95 % interval (Clopper-Pearson).
    """

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float
    interval: Tuple[float, float]


def reliability(confidence: np.ndarray, is_right: np.ndarray, bins: int = BINS) -> List[Bin]:
    """Return the bins of equal width that hold predictions, from low to high confidence."""
    from scipy.stats import binomtest  # slow to import

    edges = np.linspace(0, 1, bins + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    found = []
    for place in np.unique(places).tolist():
        inside = places == place
        count, right = int(inside.sum()), int(is_right[inside].sum())
        interval = binomtest(right, count).proportion_ci(0.95)
        found.append(
            Bin(
                float(edges[place]),
                float(edges[place + 1]),
                count,
                float(confidence[inside].mean(dtype=np.float64)),
                right / count,
                (float(interval.low), float(interval.high)),
            )
        )
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """
    Return the expected calibration error (Naeini et al. 2015): the mean distance between confidence
    and accuracy over the bins, weighted by their numbers of predictions.
    """
    total = sum(each.count for each in bins)
    return sum(each.count * abs(each.confidence - each.accuracy) for each in bins) / total
