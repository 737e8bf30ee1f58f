from typing import List, Tuple

import numpy as np
from allennlp.common.checks import ConfigurationError

from allencv.certainty.calibrations.calibration import Calibration
from allencv.runtime.certainty import Scaling
from allencv.runtime.certainty.scaling import scores_of

SMALLEST_SLOPE = 0.01
"""A smaller slope, or a negative one, would turn the order of the images around."""


@Calibration.register("platt")
class PlattScaling(Calibration):
    """
    Finds a slope and an offset of the logit of each label, for images with several labels (Platt
    1999, "Probabilistic outputs for support vector machines").

    As there, the targets are not 0 and 1 but (images with the label + 1) / (these images + 2), and
    1 / (images without it + 2), so that few images give no extreme probabilities.

    Registered as a `Calibration` with the name "platt".
    """

    def fit(self, probabilities: np.ndarray, targets: np.ndarray) -> Scaling:
        if targets.ndim != 2:
            raise ConfigurationError(
                "the calibration 'platt' is for models with several labels an image; expected "
                "'temperature'"
            )
        pairs = [
            _fitted(scores_of(column, multi_label=True), own)
            for column, own in zip(probabilities.T, targets.T)
        ]
        return Scaling([slope for slope, _ in pairs], [offset for _, offset in pairs])


def _fitted(scores: np.ndarray, has_label: np.ndarray) -> Tuple[float, float]:
    """Return the slope and offset of one label. A label that all or no images have stays as is."""
    from scipy.optimize import minimize  # slow to import

    positives = int(has_label.sum())
    negatives = len(has_label) - positives
    if not positives or not negatives:
        return 1.0, 0.0
    wanted = np.where(has_label, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: np.ndarray) -> Tuple[float, List[float]]:
        scaled = parameters[0] * scores + parameters[1]
        powers = np.exp(-np.abs(scaled))  # for the sigmoid and its logarithm, without overflow
        difference = np.where(scaled >= 0, 1, powers) / (1 + powers) - wanted
        value = (np.maximum(scaled, 0) + np.log(1 + powers) - wanted * scaled).sum()
        return float(value), [float(difference @ scores), float(difference.sum())]

    found = minimize(
        loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(SMALLEST_SLOPE, None), (None, None)]
    )
    return float(found.x[0]), float(found.x[1])
