import math

import torch
from allennlp.training.metrics.metric import Metric

from allencv.training.metrics.torchmetrics_metric import TorchmetricsMetric


@Metric.register("balanced_accuracy")
class BalancedAccuracy(TorchmetricsMetric):
    """
    The mean over the classes of the share of their images that are classified right: the accuracy
    on data with the same number of images for each class. For images with one label each.

    A class without images is left out with a warning, as in scikit-learn's
    `balanced_accuracy_score`. The macro averages of `recall` and `accuracy` are the same number.

    Registered as a `Metric` with name "balanced_accuracy".
    """

    torchmetrics_name = "StatScores"
    tasks = ("multiclass",)

    def __init__(self) -> None:
        super().__init__(average=None)

    def _readable(self, result: torch.Tensor) -> float:
        # Shape: (num_classes,) each
        true_positives, _, _, _, support = result.cpu().double().unbind(-1)
        return self._mean_over_classes(true_positives / support, support > 0)

    def undefined(self) -> float:
        return math.nan
