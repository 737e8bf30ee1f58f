"""Random predictions for tests."""

import numpy as np

from allencv.predictions.predictions_file import Predictions


def single(labels: int = 12, images: int = 200, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    targets = random.integers(0, labels - 1, images)  # no image has the last label
    scores = random.normal(0, 1.5, (images, labels))
    scores[np.arange(images), targets] += 2
    probs = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    names = [str(number) for number in range(images)]
    return Predictions(
        [f"label {number}" for number in range(labels)], names, probs.astype(np.float32), targets
    )


def several(images: int = 150, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    targets = random.random((images, 4)) < [0.5, 0.2, 0.05, 0]  # no image has the last label
    # Rounded, so that images share probabilities.
    probs = (1 / (1 + np.exp(-random.normal(3 * targets - 1.5, 1.5)))).round(2)
    return Predictions(
        ["a", "b", "c", "d"],
        [str(number) for number in range(images)],
        probs.astype(np.float32),
        targets,
        np.array([0.5, 0.3, 0.2, 0.5], dtype=np.float32),
    )
