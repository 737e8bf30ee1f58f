from typing import Dict, Optional

import torch
from allennlp.training.metrics.metric import Metric

from allencv.training.metrics.torchmetrics_metric import TorchmetricsMetric


@Metric.register("per_class")
class PerClass(TorchmetricsMetric):
    """
    The precision, recall and F1 score of each class, and its support, the number of its images:
    "{label}_precision", "{label}_recall", "{label}_f1" and "{label}_support". For images with one
    label or with several.

    0 divided by 0 is 0, as in scikit-learn's `precision_recall_fscore_support`: the precision of a
    class that is never predicted, or the recall of a class without images.

    Registered as a `Metric` with name "per_class".

    # Parameters

    threshold : `float`, optional (default = `None`)
        The probability in [0, 1] above which a label is predicted; `None` is 0.5. Only for images
        with several labels.
    """

    torchmetrics_name = "StatScores"

    def __init__(self, threshold: Optional[float] = None) -> None:
        arguments = {} if threshold is None else {"threshold": threshold}
        super().__init__(average=None, **arguments)

    def _readable(self, result: torch.Tensor) -> Dict[str, float]:
        # Shape: (num_classes,) each
        true_positives, false_positives, _, false_negatives, support = (
            result.cpu().double().unbind(-1)
        )
        values = {
            "precision": true_positives / (true_positives + false_positives),
            "recall": true_positives / support,
            "f1": 2 * true_positives / (2 * true_positives + false_positives + false_negatives),
            "support": support,
        }
        by_label = {name: self._by_label(value.nan_to_num(0)) for name, value in values.items()}
        return {
            f"{label}_{name}": by_label[name][label]
            for label in by_label["support"]
            for name in values
        }
