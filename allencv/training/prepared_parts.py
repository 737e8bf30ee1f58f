"""Prepare the parts of a trainer that AllenNLP builds, so that they get what it does not pass."""

from typing import Any, List

from allennlp.common import Lazy
from allennlp.models import Model
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.moving_average import MovingAverage, NamedParameter
from torch.nn.modules.batchnorm import _BatchNorm


def with_statistics(average: Lazy[MovingAverage], model: Model) -> Lazy[MovingAverage]:
    """Return a moving average that includes the running statistics of batch normalisation."""

    def construct(parameters: List[NamedParameter]) -> MovingAverage:
        statistics = [
            (f"{name}.{key}", value)
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.track_running_stats
            for key, value in (
                ("running_mean", module.running_mean),
                ("running_var", module.running_var),
            )
        ]
        return average.construct(parameters=[*parameters, *statistics])

    return Lazy(construct)


def with_steps_per_epoch(
    scheduler: Lazy[LearningRateScheduler], steps: int
) -> Lazy[LearningRateScheduler]:
    """Return a scheduler that gets this number of steps in place of AllenNLP's."""

    def construct(**given: Any) -> LearningRateScheduler:
        return scheduler.construct(**{**given, "num_steps_per_epoch": steps})

    return Lazy(construct, scheduler._params)
