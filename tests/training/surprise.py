"""A loss that a test may ask for more of, which the trainer refuses for one called a loss."""

import torch
from allennlp.training.metrics import Metric
from torch.nn import functional as F


@Metric.register("surprise", exist_ok=True)
class Surprise(Metric):
    """The mean cross entropy of the images, which falls as a model learns."""

    def __init__(self) -> None:
        self.reset()

    def __call__(self, predictions: torch.Tensor, gold_labels: torch.Tensor) -> None:
        self._total += F.cross_entropy(predictions, gold_labels, reduction="sum").item()
        self._count += len(gold_labels)

    def get_metric(self, reset: bool = False) -> float:
        value = self._total / max(self._count, 1)
        if reset:
            self.reset()
        return value

    def reset(self) -> None:
        self._total = 0.0
        self._count = 0
