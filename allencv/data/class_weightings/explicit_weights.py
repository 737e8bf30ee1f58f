from typing import Dict

from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.data.class_weightings.class_weighting import ClassWeighting


@ClassWeighting.register("weights")
class ExplicitWeights(ClassWeighting):
    """
    Takes the weights from the config: `{"type": "weights", "weights": {"cat": 2.0}}`. An image of a
    class that is not listed weighs 1.

    Registered as a `ClassWeighting` with name "weights".

    # Parameters

    weights : `Dict[str, float]`, required
        Weights by label, 0 or more. They are scaled as in every `ClassWeighting`, so only their
        ratios matter.

    # Raises

    `ConfigurationError` for a weight below 0; once the training data are known, also for a label
    without images, or if no image has a weight above 0.
    """

    def __init__(self, weights: Dict[str, float]) -> None:
        for label, weight in weights.items():
            if weight < 0:
                raise ConfigurationError(
                    f"weights.weights.{label} is {weight}; expected a number of at least 0"
                )
        self._weights = weights

    def weights(self, counts: Dict[str, int]) -> Dict[str, float]:
        for label in self._weights:
            if label not in counts:
                raise not_one_of("a label of weights.weights", label, counts)
        weights = {label: self._weights.get(label, 1.0) for label in counts}
        if not any(weights.values()):
            raise ConfigurationError(
                f"weights.weights is 0 for {', '.join(counts)}; expected one above 0"
            )
        return weights
