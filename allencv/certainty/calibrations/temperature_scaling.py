from typing import Callable, Tuple

import numpy as np

from allencv.certainty.calibrations.calibration import Calibration
from allencv.runtime.certainty import Scaling
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

        multi_label = targets.ndim == 2
        scores = scores_of(probabilities, multi_label)
        loss, is_right = (_of_labels if multi_label else _of_classes)(scores, targets)
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


def _of_classes(scores: np.ndarray, targets: np.ndarray) -> Tuple[Loss, bool]:
    """Return the loss, and whether each image has its most probable label."""
    own = scores[np.arange(len(targets)), targets]

    def loss(slope: float) -> float:
        return float((np.logaddexp.reduce(slope * scores, axis=1) - slope * own).mean())

    return loss, bool((scores.max(axis=1) == own).all())


def _of_labels(scores: np.ndarray, targets: np.ndarray) -> Tuple[Loss, bool]:
    """Return the same for several labels an image."""
    margins = np.where(targets, scores, -scores)

    def loss(slope: float) -> float:
        return float(np.logaddexp(0, -slope * margins).mean())

    return loss, bool((margins >= 0).all())
