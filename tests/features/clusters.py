from typing import Tuple

import numpy as np


def clusters(
    classes: int, each: int, dim: int, apart: float = 1.0, seed: int = 0
) -> Tuple[np.ndarray, np.ndarray]:
    """
    Draw vectors around a centre for each class, none of them negative, as those of a network.
    Returns vectors `(classes * each, dim)`, float32, and class indices.
    """
    centres = np.random.default_rng(12).normal(0, apart, (classes, dim))
    labels = np.repeat(np.arange(classes), each)
    noise = np.random.default_rng(seed).normal(0, 1, (len(labels), dim))
    return np.maximum(1 + centres[labels] + noise, 0).astype(np.float32), labels
