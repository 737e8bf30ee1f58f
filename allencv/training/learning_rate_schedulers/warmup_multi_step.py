import itertools
from typing import Any, List

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule, check_factor


@LearningRateScheduler.register("warmup_multi_step")
class WarmupMultiStep(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, which is then multiplied by `gamma` at
    each of the `milestones`.

    Registered as a `LearningRateScheduler` with name "warmup_multi_step".

    # Parameters

    milestones : `List[float]`
        In epochs of training that have passed, warm-up included, in rising order: with `[30, 60]`
        the 31st epoch is the first with a lower learning rate. All are less than `num_epochs`.
    gamma : `float`, optional (default = `0.1`)
        What the learning rate is multiplied by; from 0 to 1.

    The others are those of `WarmupSchedule`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        milestones: List[float],
        gamma: float = 0.1,
        **kwargs: Any,
    ) -> None:
        rising = all(first < second for first, second in itertools.pairwise(milestones))
        if not (milestones and rising and milestones[0] > 0 and milestones[-1] < num_epochs):
            raise ConfigurationError(
                f"learning_rate_scheduler.milestones are {milestones}; expected rising numbers of "
                "epochs above 0 and less than those of training (trainer.num_epochs is "
                f"{num_epochs})"
            )
        self.milestones = milestones
        check_factor("gamma", gamma)
        self.gamma = gamma
        super().__init__(optimizer, num_epochs, **kwargs)

    def after_warmup(self, update: int) -> float:
        passed = [each for each in self.milestones if each * self.updates_per_epoch <= update]
        return self.gamma ** len(passed)
