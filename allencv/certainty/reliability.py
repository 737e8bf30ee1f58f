"""Compare probabilities with how often they are right."""

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np
from scipy.stats import binomtest

BINS = 15


@dataclass(frozen=True)
class Bin:
    """
    The images whose confidence lies between two numbers.

    # Parameters

    confidence : the mean confidence.
    accuracy, interval : the share of right answers, and its 95 % interval (Clopper-Pearson).
    images : their number.
    """

    confidence: float
    accuracy: float
    interval: Tuple[float, float]
    images: int


def reliability(confidence: np.ndarray, is_right: np.ndarray, bins: int = BINS) -> List[Bin]:
    """Return the bins of equal width that hold images, from low to high confidence."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    found = []
    for place in range(bins):
        inside = places == place
        if (images := int(inside.sum())) == 0:
            continue
        right = int(is_right[inside].sum())
        interval = binomtest(right, images).proportion_ci(0.95)
        found.append(
            Bin(
                float(confidence[inside].mean()),
                right / images,
                (float(interval.low), float(interval.high)),
                images,
            )
        )
    return found


def calibration_error(confidence: np.ndarray, is_right: np.ndarray, bins: int = BINS) -> float:
    """
    Return the expected calibration error: the mean difference between confidence and accuracy over
    bins of equal width, weighted by their images (Guo et al. 2017, arXiv:1706.04599).
    """
    return sum(
        abs(each.confidence - each.accuracy) * each.images / len(confidence)
        for each in reliability(confidence, is_right, bins)
    )
