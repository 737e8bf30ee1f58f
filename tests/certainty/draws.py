"""Synthetic answers of networks whose true probabilities are known."""

from typing import NamedTuple

import numpy as np


class Draws(NamedTuple):
    """`probabilities` are those of a network that is too sure; `true` those of the targets."""

    probabilities: np.ndarray
    true: np.ndarray
    targets: np.ndarray


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn_answers(
    images: int, labels: int = 10, seed: int = 0, temperature: float = 2.0, width: float = 3.0
) -> Draws:
    """
    Draw answers of a network whose logits are `temperature` times too large: the targets are drawn
    with the probabilities after the right calibration.
    """
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, labels)) * width
    true = softmax(logits)
    targets = (true.cumsum(axis=1) > random.uniform(size=(images, 1))).argmax(axis=1)
    return Draws(softmax(temperature * logits).astype(np.float32), true, targets)


def drawn_label_sets(images: int, labels: int = 6, seed: int = 0) -> Draws:
    """The same for several labels an image, or none; each label has its own slope and offset."""
    random = np.random.default_rng(seed)
    logits = random.normal(-1, 2, size=(images, labels))
    true = 1 / (1 + np.exp(-logits))
    targets = random.uniform(size=true.shape) < true
    slopes, offsets = np.linspace(1, 3, labels), np.linspace(-1, 1, labels)
    return Draws((1 / (1 + np.exp(-slopes * logits - offsets))).astype(np.float32), true, targets)
