from typing import Any, Dict

import torch
from allennlp.training.metrics.metric import Metric

from allencv.training.metrics.torchmetrics_metric import TorchmetricsMetric

COUNTS = ("tp", "fp", "tn", "fn", "support")


@Metric.register("stat_scores")
class StatScores(TorchmetricsMetric):
    """
    torchmetrics' `StatScores`: the numbers of true and false positives and negatives as "tp", "fp",
    "tn" and "fn", and of the true labels as "support"; with `average: null` those of each label, as
    "{label}_tp".

    Registered as a `Metric` with name "stat_scores".

    # Parameters

    torchmetrics' own: https://lightning.ai/docs/torchmetrics/stable/classification/stat_scores.html
    """

    torchmetrics_name = "StatScores"

    def _readable(self, result: torch.Tensor) -> Dict[str, float]:
        counts: Dict[str, Any] = dict(zip(COUNTS, result.unbind(-1)))
        if result.dim() == 1:
            return {name: float(count) for name, count in counts.items()}
        by_label = {name: self._by_label(count) for name, count in counts.items()}
        return {
            f"{label}_{name}": float(by_label[name][label])
            for label in by_label["tp"]
            for name in COUNTS
        }
