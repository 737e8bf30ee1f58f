from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule, check_factor


@LearningRateScheduler.register("warmup_step")
class WarmupStep(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, which is then multiplied by `gamma`
    whenever another `step_size` epochs of training have passed.

    Registered as a `LearningRateScheduler` with name "warmup_step".

    # Parameters

    step_size : `float`
        In epochs, counted from the beginning of training, warm-up included; less than training.
    gamma : `float`, optional (default = `0.1`)
        What the learning rate is multiplied by; from 0 to 1.

    The others are those of `WarmupSchedule`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        step_size: float,
        gamma: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if not 0 < step_size < num_epochs:
            raise ConfigurationError(
                f"learning_rate_scheduler.step_size is {step_size}; expected a number of epochs "
                f"above 0 and less than those of training (trainer.num_epochs is {num_epochs})"
            )
        self.step_size = step_size
        check_factor("gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, num_epochs, **kwargs)

    def after_warmup(self, update: int) -> float:
        return self.gamma ** (update // (self.step_size * self.updates_per_epoch))
