"""What the trials of `allencv tune` maximize."""

import math
from typing import Any, Dict, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.training.metric_tracker import MetricTracker

from allencv.experiments.runs import Config
from allencv.experiments.search_space import value_at
from allencv.training.kept_weights import kept_weights


class Objective:
    """The `trainer.validation_metric` of a config, with its sign."""

    def __init__(self, config: Config) -> None:
        self.metric = value_at(config, "trainer.validation_metric") or "-loss"
        self._tracker = MetricTracker(self.metric)
        (self._sign, name), *self._others = self._tracker.tracked_metrics
        self.name = "score" if self._others else name
        """The name of what `text` returns."""

    @property
    def is_loss(self) -> bool:
        """Whether the loss is it, or a part of it."""
        return any(name == "loss" for _, name in self._tracker.tracked_metrics)

    def of_epoch(self, metrics: Dict[str, Any]) -> Optional[float]:
        """Return the score of an epoch, or `None` if it has none that is a finite number."""
        return self._score(metrics, "validation_")

    def of_run(self, metrics: Dict[str, Any]) -> Optional[float]:
        """Return the score of the model that a run has made, or `None` as for an epoch."""
        return self._score(metrics, f"{kept_weights(metrics)}_validation_")

    def _score(self, metrics: Dict[str, Any], prefix: str) -> Optional[float]:
        of_model = {key[len(prefix) :]: metrics[key] for key in metrics if key.startswith(prefix)}
        try:
            score = float(self._tracker.combined_score(of_model))
        except ConfigurationError:
            return None
        return score if math.isfinite(score) else None

    def text(self, score: float) -> str:
        """Return the metric without its sign, or the sum of several with their signs."""
        return f"{score if self._others else self._sign * score:.4f}"
