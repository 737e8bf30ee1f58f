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
    likely (Guo et al. 2017, arXiv:1706.04599). It changes no label.

    Registered as a `Calibration` with the name "temperature".
    """

    def fit(self, probabilities: np.ndarray, targets: np.ndarray) -> Scaling:
        multi_label = targets.ndim == 2
        scores = scores_of(probabilities, multi_label)

        def loss(logarithm: float) -> float:
            scaled = scores * np.exp(logarithm)
            if multi_label:
                signs = np.where(targets, 1.0, -1.0)
                return float(np.logaddexp(0, -signs * scaled).mean())
            own = scaled[np.arange(len(targets)), targets]
            return float((logsumexp(scaled, axis=1) - own).mean())

        bound = np.log(LARGEST)
        slope = float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))
        labels = probabilities.shape[1]
        return Scaling([slope] * labels, [0.0] * labels)
