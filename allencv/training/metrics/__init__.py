"""
Metrics. Those of torchmetrics keep their names: `from allencv.training.metrics import AUROC`.
"""

from typing import Type

from allencv.training.metrics import torchmetrics_metric
from allencv.training.metrics.balanced_accuracy import BalancedAccuracy
from allencv.training.metrics.confusion_matrix import ConfusionMatrix
from allencv.training.metrics.per_class import PerClass
from allencv.training.metrics.stat_scores import StatScores
from allencv.training.metrics.top_k_accuracy import TopKAccuracy
from allencv.training.metrics.torchmetrics_metric import METRICS, TorchmetricsMetric

__all__ = [
    "METRICS",
    "BalancedAccuracy",
    "ConfusionMatrix",
    "PerClass",
    "StatScores",
    "TopKAccuracy",
    "TorchmetricsMetric",
    *METRICS,
]


def __getattr__(name: str) -> Type[TorchmetricsMetric]:
    return getattr(torchmetrics_metric, name)
