import math
from typing import Any

import torch
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.warmup_schedule import WarmupSchedule, check_factor


@LearningRateScheduler.register("warmup_cosine")
class WarmupCosine(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, then half a period of the cosine down to
    `end_factor` times it, without restarts (Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1608.03983).

    Registered as a `LearningRateScheduler` with name "warmup_cosine".

    # Parameters

    end_factor : `float`, optional (default = `0.0`)
        What is left of the learning rate at the end; from 0 to 1.

    The others are those of `WarmupSchedule`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        end_factor: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_factor("end_factor", end_factor)
        self.end_factor = end_factor
        super().__init__(optimizer, num_epochs, **kwargs)

    def after_warmup(self, update: int) -> float:
        left = (1 + math.cos(math.pi * self.progress(update))) / 2
        return self.end_factor + (1 - self.end_factor) * left
