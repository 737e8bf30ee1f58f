"""Which epoch is the best."""

import math
from typing import Dict

from allennlp.training.metric_tracker import MetricTracker

TIE = 1e-9
"""How much one unit of loss counts: less than one image in a hundred million."""


class MetricTrackerWithTies(MetricTracker):
    """
    AllenNLP's tracker of the best epoch, with the lower validation loss as the tie-breaker, and
    with a second reason to stop: training `is_over`.

    On few validation images many epochs have the same accuracy. AllenNLP keeps the first of them,
    whose model has been trained the least.
    """

    is_over = False
    """Whether training ends for another reason than `patience`."""

    def should_stop_early(self) -> bool:
        return self.is_over or super().should_stop_early()

    def combined_score(self, metrics: Dict[str, float]) -> float:
        score = super().combined_score(metrics)
        loss = metrics.get("loss", 0.0)
        is_tracked = any(name == "loss" for _, name in self.tracked_metrics)
        return score if is_tracked or not math.isfinite(loss) else score - TIE * loss
