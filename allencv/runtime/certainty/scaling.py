from dataclasses import dataclass
from typing import List

import numpy as np

from allencv.runtime.certainty.blocks import in_blocks

SMALLEST = float(np.finfo(np.float32).tiny)
"""Stands for a probability of 0, whose logarithm is infinite."""


@dataclass(frozen=True)
class Scaling:
    """
    Calibrated probabilities from those of the network: a slope and an offset for each label.

    For one label an image, `softmax(slope * log(p) + offset)`: with equal slopes of 1 / T and no
    offsets it is temperature scaling (Guo et al. 2017, arXiv:1706.04599). For several labels,
    `sigmoid(slope * logit(p) + offset)`, which is Platt scaling (Platt 1999).

    # Parameters

    slopes, offsets : a number for each label. Slopes are positive.
    """

    slopes: List[float]
    offsets: List[float]

    def __call__(self, probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
        """Return the calibrated probabilities `(images, labels)`, `float32`."""
        return in_blocks(lambda rows: self._scaled(rows, multi_label), probabilities)

    def _scaled(self, probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
        slopes, offsets = np.array(self.slopes), np.array(self.offsets)
        scores = slopes * scores_of(probabilities, multi_label) + offsets
        if multi_label:
            return sigmoid(scores).astype(np.float32)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def scores_of(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """
    Return the logits `(images, labels)`, `float64`, of which these are the probabilities: those of
    a softmax up to a number for each image, and with `multi_label` those of a sigmoid.
    """
    p = probabilities.astype(np.float64)
    logarithms = np.log(np.maximum(p, SMALLEST))
    if not multi_label:
        return logarithms
    # In float32 the largest number below 1 is 1 - 6e-8.
    return logarithms - np.log(np.maximum(1 - p, 2.0**-25))


def sigmoid(scores: np.ndarray) -> np.ndarray:
    """Return `1 / (1 + exp(-scores))` without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * scores))
