from contextlib import contextmanager, nullcontext
from typing import ContextManager, Dict, Iterator, List, Optional, Tuple
from unittest.mock import patch

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training.metrics import Metric

from allencv.models.reported_metrics import all_reported, count_batch
from allencv.predictions.all_ranks import gathered, in_order
from allencv.training.metrics import TopKAccuracy, TorchmetricsMetric

Batch = Tuple[torch.Tensor, torch.Tensor]


class MetricsOfRanks:
    """
    Counts predictions with the metrics of a model, so that evaluation on any number of ranks gives
    the numbers of a single process.

    AllenCV's metrics combine the counts of the ranks when they are reset. Others know nothing of
    ranks or, as AllenNLP's do, exchange their counts at every batch, of which the ranks may have
    different numbers. In evaluation with several ranks, the predictions are therefore kept for
    these. When they are reset, each rank counts those of all ranks, batch by batch and in order.
    """

    def __init__(self) -> None:
        self._kept: List[Optional[Batch]] = []

    def pass_turn(self) -> None:
        """Keep the turn of a batch in evaluation that has no image."""
        self._kept.append(None)

    def count(
        self,
        metrics: Dict[str, Metric],
        predictions: torch.Tensor,
        targets: torch.Tensor,
        is_training: bool,
    ) -> None:
        """Add a batch to each metric, as `count_batch` does, now or when they are reset."""
        if is_distributed() and not is_training and (others := _others(metrics)):
            self._kept.append((predictions.detach(), targets))
            metrics = {key: metric for key, metric in metrics.items() if key not in others}
        count_batch(metrics, predictions, targets)

    def count_nothing(
        self, metrics: Dict[str, Metric], predictions: torch.Tensor, targets: torch.Tensor
    ) -> None:
        """
        Take part where metrics exchange their counts at every batch, with no image of a batch of
        training.
        """
        count_batch(_others(metrics), predictions[:0], targets[:0])

    def reported(
        self, metrics: Dict[str, Metric], labels: List[str], has_seen: bool, reset: bool
    ) -> Dict[str, float]:
        """
        Return the numbers of the metrics by name, as `all_reported` does. With `reset` they cover
        all ranks, each of which must call this; without, metrics whose predictions are kept are
        left out.
        """
        others, kept = _others(metrics), self._kept
        if reset:
            self._kept = []
        if not (is_distributed() and others):
            return all_reported(metrics, labels, has_seen, reset)
        if not reset:
            now = {key: metric for key, metric in metrics.items() if key not in others}
            return all_reported(now if kept else metrics, labels, has_seen, reset)
        batches = in_order(gathered([each and (each[0].cpu(), each[1].cpu()) for each in kept]))
        if not batches:
            return all_reported(metrics, labels, has_seen, reset)
        with as_a_single_process():
            for batch in batches:
                count_batch(others, *batch)

        def around(key: str) -> ContextManager[None]:
            return as_a_single_process() if key in others else nullcontext()

        return all_reported(metrics, labels, True, reset, around)


def _others(metrics: Dict[str, Metric]) -> Dict[str, Metric]:
    """Return the metrics that do not combine the ranks when they are reset."""
    return {
        key: metric
        for key, metric in metrics.items()
        if not isinstance(metric, (TopKAccuracy, TorchmetricsMetric))
    }


@contextmanager
def as_a_single_process() -> Iterator[None]:
    """Let metrics believe that there are no other ranks: AllenNLP's ask torch."""
    with patch.object(dist, "is_initialized", lambda: False):
        yield
