from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule, check_factor


@LearningRateScheduler.register("warmup_polynomial")
class WarmupPolynomial(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, then down to `end_factor` times it as
    `(1 - progress) ** power`: in a straight line with a `power` of 1.

    Registered as a `LearningRateScheduler` with name "warmup_polynomial".

    # Parameters

    power : `float`, optional (default = `1.0`)
        Above 0.
    end_factor : `float`, optional (default = `0.0`)
        What is left of the learning rate at the end; from 0 to 1.

    The others are those of `WarmupSchedule`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        power: float = 1.0,
        end_factor: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if power <= 0:
            raise ConfigurationError(
                f"learning_rate_scheduler.power is {power}; expected a number above 0"
            )
        self.power = power
        check_factor("end_factor", end_factor)
        self.end_factor = end_factor
        super().__init__(optimizer, num_epochs, **kwargs)

    def after_warmup(self, update: int) -> float:
        left = (1 - self.progress(update)) ** self.power
        return self.end_factor + (1 - self.end_factor) * left
