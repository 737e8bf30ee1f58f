from typing import Callable, Tuple

import numpy as np

from allencv.certainty.calibrations.calibration import Calibration
from allencv.runtime.certainty import Scaling
from allencv.runtime.certainty.blocks import in_blocks
from allencv.runtime.certainty.scaling import scores_of

LARGEST = 100.0
"""The largest temperature, and the reciprocal of the smallest."""


@Calibration.register("temperature")
class TemperatureScaling(Calibration):
    """
    Divides the logits by one number, the temperature, with which the labels of the images are most
    likely (Guo et al. 2017, arXiv:1706.04599). It changes no label. If every image has its most
    probable label, no temperature is the most likely, and the probabilities stay as they are.

    Registered as a `Calibration` with the name "temperature".
    """

    def fit(self, probabilities: np.ndarray, targets: np.ndarray) -> Scaling:
        from scipy.optimize import minimize_scalar  # slow to import

        loss, is_right = (_of_labels if targets.ndim == 2 else _of_classes)(probabilities, targets)
        slope = 1.0
        if not is_right:
            bound = np.log(LARGEST)
            found = minimize_scalar(
                lambda logarithm: loss(np.exp(logarithm)), bounds=(-bound, bound), method="bounded"
            )
            slope = float(np.exp(found.x))
        labels = probabilities.shape[1]
        return Scaling([slope] * labels, [0.0] * labels)


Loss = Callable[[float], float]
"""The mean negative log likelihood of the labels for scores times a slope."""


def _of_classes(probabilities: np.ndarray, targets: np.ndarray) -> Tuple[Loss, bool]:
    """Return the loss, and whether each image has its most probable label."""

    def shifted(rows: np.ndarray) -> np.ndarray:
        scores = scores_of(rows, multi_label=False)
        return (scores - scores.max(axis=1, keepdims=True)).astype(np.float32)

    scores = in_blocks(shifted, probabilities)
    own = scores[np.arange(len(targets)), targets].astype(np.float64)

    def loss(slope: float) -> float:
        # The highest score is 0, so the sums are neither 0 nor infinite.
        sums = in_blocks(lambda rows: np.exp(slope * rows.astype(np.float64)).sum(axis=1), scores)
        return float((np.log(sums) - slope * own).mean())

    return loss, bool((own == 0).all())


def _of_labels(probabilities: np.ndarray, targets: np.ndarray) -> Tuple[Loss, bool]:
    """Return the same for several labels an image."""

    def signed(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
        scores = scores_of(rows, multi_label=True)
        return np.where(targets, scores, -scores).astype(np.float32)

    margins = in_blocks(signed, probabilities, targets)

    def loss(slope: float) -> float:
        def means(rows: np.ndarray) -> np.ndarray:
            return np.logaddexp(0, -slope * rows.astype(np.float64)).mean(axis=1)

        return float(in_blocks(means, margins).mean())

    return loss, bool((margins >= 0).all())
