from itertools import islice
from typing import Any, Dict, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics.metric import Metric

from allencv.training.metrics.torchmetrics_metric import TorchmetricsMetric


@Metric.register("confusion_matrix")
class ConfusionMatrix(TorchmetricsMetric):
    """
    The most frequent confusions of classes: "{gold}_as_{predicted}" is the number of images of the
    class `gold` that were classified as `predicted`. For images with one label each. `matrix` has
    the numbers for all pairs of classes.

    A confusion reported at the end of an epoch is reported in later epochs too, even if it is 0.
    Otherwise AllenNLP would keep the old number in `metrics.json`.

    Registered as a `Metric` with name "confusion_matrix".

    # Parameters

    max_confusions : `int`, optional (default = `10`)
        The most confusions that `get_metric` returns, at least 1. Among equally frequent ones the
        first classes come first.
    """

    torchmetrics_name = "ConfusionMatrix"
    tasks = ("multiclass",)

    def __init__(self, max_confusions: int = 10) -> None:
        super().__init__()
        if max_confusions < 1:
            raise ConfigurationError(
                f"confusion_matrix.max_confusions is {max_confusions}; expected at least 1"
            )
        self._max_confusions = max_confusions
        self._matrix: Optional[torch.Tensor] = None
        self._reported: Dict[str, None] = {}  # a set that keeps its order

    def matrix(self) -> torch.Tensor:
        """
        Return `(num_classes, num_classes)`, as of the last `get_metric`: the number of images of
        the row's class that were classified as the column's class.
        """
        if self._matrix is None:
            raise ConfigurationError("confusion_matrix has no matrix yet; call get_metric first")
        return self._matrix

    def get_metric(self, reset: bool = False) -> Union[float, Dict[str, float]]:
        value = super().get_metric(reset)
        if reset and isinstance(value, dict):
            self._reported.update(dict.fromkeys(value))
        return value

    def undefined(self) -> Dict[str, float]:
        """Return nothing: the most frequent confusions are not known before."""
        return {}

    def state_dict(self) -> Dict[str, Any]:
        return {**super().state_dict(), "reported": list(self._reported)}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._reported = dict.fromkeys(state_dict["reported"])

    def _readable(self, result: torch.Tensor) -> Dict[str, float]:
        self._matrix = result.cpu()
        confusions = self._matrix.clone().fill_diagonal_(0).flatten()
        order = confusions.argsort(descending=True, stable=True)
        labels = self._names(len(self._matrix))
        counts = {
            f"{labels[index // len(labels)]}_as_{labels[index % len(labels)]}": float(count)
            for index, count in zip(order.tolist(), confusions[order].tolist())
        }
        most = {
            name: count for name, count in islice(counts.items(), self._max_confusions) if count
        }
        return most | {name: counts[name] for name in self._reported if name in counts}
