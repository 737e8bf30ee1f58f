import numpy as np
import pytest
import torch
from scipy.stats import binom
from torchmetrics.functional.classification import binary_calibration_error

from allencv.certainty.reliability import calibration_error, reliability


def test_the_error_is_that_of_torchmetrics() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(size=500).astype(np.float32)
    is_right = random.uniform(size=500) < confidence**2
    expected = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(is_right).long(), n_bins=10
    )
    assert calibration_error(reliability(confidence, is_right)) == pytest.approx(
        float(expected), abs=1e-5
    )


def test_bins_by_hand() -> None:
    confidence = np.array([0.05, 0.95, 1.0, 0.91, 0.92])
    is_right = np.array([False, True, True, False, True])
    low, high = reliability(confidence, is_right)
    assert (low.confidence, low.accuracy, low.count) == (0.05, 0.0, 1)
    assert low.interval == (0.0, pytest.approx(0.975))  # 1 - 0.025
    assert high.confidence == pytest.approx(0.945)
    assert (high.accuracy, high.count) == (0.75, 4)
    assert high.interval[0] < 0.75 < high.interval[1]
    assert calibration_error([low, high]) == pytest.approx(0.05 / 5 + 0.195 * 4 / 5)


def test_intervals_hold_the_accuracy_as_often_as_they_say() -> None:
    """Added up over all numbers of right answers of 50 images, of which 80 % are right."""
    chance = 0.0
    for right in range(51):
        (one,) = reliability(np.full(50, 0.8), np.arange(50) < right)
        if one.interval[0] <= 0.8 <= one.interval[1]:
            chance += binom.pmf(right, 50, 0.8)
    assert 0.95 <= chance < 0.99
