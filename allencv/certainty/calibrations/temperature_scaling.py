import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

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
        multi_label = targets.ndim == 2
        scores = scores_of(probabilities, multi_label)
        own = scores[np.arange(len(targets)), targets] if not multi_label else None
        signs = np.where(targets, 1.0, -1.0) if multi_label else None

        def loss(logarithm: float) -> float:
            slope = np.exp(logarithm)
            if own is None:
                return float(np.logaddexp(0, -signs * slope * scores).mean())
            return float((logsumexp(slope * scores, axis=1) - slope * own).mean())

        is_right = scores.max(axis=1) == own if own is not None else signs * scores >= 0
        slope = 1.0
        if not is_right.all():
            bound = np.log(LARGEST)
            found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
            slope = float(np.exp(found.x))
        labels = probabilities.shape[1]
        return Scaling([slope] * labels, [0.0] * labels)
