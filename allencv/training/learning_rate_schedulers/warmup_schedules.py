"""Schedules that begin with a linear warm-up."""

import itertools
import math
from typing import Any, List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.training.learning_rate_schedulers.schedule import Schedule


def check_factor(key: str, value: float) -> None:
    """Raise a `ConfigurationError` unless a factor of the learning rate is from 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigurationError(
            f"learning_rate_scheduler.{key} is {value}; expected a number from 0 to 1"
        )


class WarmupSchedule(Schedule):
    """
    The base of schedules that begin with a linear warm-up (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677). In a warm-up of `n` updates the learning rate is that of the
    optimizer times `1 / (n + 1)`, `2 / (n + 1)`, ...; the first update after it has the full rate.

    # Parameters

    warmup_epochs : `float`, optional (default = `0.0`)
        The length of the warm-up in epochs, whole or in part: 0.5 is half an epoch. `num_epochs`
        includes it.
    warmup_steps : `float`, optional (default = `None`)
        The same in optimizer steps, instead of `warmup_epochs`.
    warmup_ratio : `float`, optional (default = `None`)
        The same as a share of training, instead of `warmup_epochs`: 0.1 is a tenth. A warm-up that
        is given so stays shorter than training when `num_epochs` changes.

    The others are those of `Schedule`.

    # Raises

    `ConfigurationError` if the warm-up is not shorter than training.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        warmup_epochs: float = 0.0,
        warmup_steps: Optional[float] = None,
        warmup_ratio: Optional[float] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_epochs, **kwargs)
        if warmup_ratio is not None:
            lengths = {"warmup_epochs": warmup_epochs, "warmup_steps": warmup_steps}
            if others := [f"{key} {value}" for key, value in lengths.items() if value]:
                raise ConfigurationError(
                    f"learning_rate_scheduler.warmup_ratio is {warmup_ratio} and {others[0]}; "
                    "expected one of them"
                )
            if not 0 <= warmup_ratio < 1:
                raise ConfigurationError(
                    f"learning_rate_scheduler.warmup_ratio is {warmup_ratio}; expected a number "
                    "from 0 to below 1"
                )
            warmup_epochs = warmup_ratio * num_epochs
        if warmup_steps is not None and (self.by_epoch or warmup_epochs):
            other = "by_epoch true" if self.by_epoch else f"warmup_epochs {warmup_epochs}"
            raise ConfigurationError(
                f"learning_rate_scheduler.warmup_steps is {warmup_steps} and {other}; expected "
                f"{'warmup_epochs' if self.by_epoch else 'one of them'}"
            )
        if warmup_steps is None:
            key, given, unit, length = "warmup_epochs", warmup_epochs, "epochs", num_epochs
            self.warmup = warmup_epochs * self.updates_per_epoch
        else:
            key, given, unit, length = "warmup_steps", warmup_steps, "steps", self.num_updates
            self.warmup = warmup_steps
        if not 0 <= given < length:
            raise ConfigurationError(
                f"learning_rate_scheduler.{key} is {given}; expected at least 0 and less than the "
                f"{length} {unit} of training (trainer.num_epochs is {num_epochs})"
            )
        self.set_update(0)

    def after_warmup(self, update: int) -> float:
        """Return the factor of the learning rate in an update after the warm-up."""
        raise NotImplementedError

    def progress(self, update: int) -> float:
        """Return how much of the time after the warm-up has passed, from 0 to 1."""
        return (update - self.warmup) / (self.num_updates - self.warmup)

    def set_update(self, update: int) -> None:
        factor = (update + 1) / (self.warmup + 1)
        if update >= self.warmup:
            factor = self.after_warmup(update)
        for group, base in zip(self.optimizer.param_groups, self.base_values):
            group["lr"] = base * factor


@LearningRateScheduler.register("warmup_constant")
class WarmupConstant(WarmupSchedule):
    """
    The learning rate of the optimizer, after a linear warm-up.

    Registered as a `LearningRateScheduler` with name "warmup_constant".

    # Parameters

    Those of `WarmupSchedule`.
    """

    def after_warmup(self, update: int) -> float:
        return 1.0


@LearningRateScheduler.register("warmup_cosine")
class WarmupCosine(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, then half a period of the cosine down to
    `end_factor` times it, without restarts (Loshchilov and Hutter 2017,
    https://arxiv.org/abs/1608.03983).

    Registered as a `LearningRateScheduler` with name "warmup_cosine".

    # Parameters

    end_factor : `float`, optional (default = `0.0`)
        The factor of the learning rate at the end, from 0 to 1.

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


@LearningRateScheduler.register("warmup_multi_step")
class WarmupMultiStep(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, which is then multiplied by `gamma` at
    each of the `milestones`.

    Registered as a `LearningRateScheduler` with name "warmup_multi_step".

    # Parameters

    milestones : `List[float]`
        Completed epochs, warm-up included, in rising order: with `[30, 60]` the 31st epoch is the
        first with a lower learning rate. All are less than `num_epochs`.
    gamma : `float`, optional (default = `0.1`)
        The factor of the learning rate, from 0 to 1.

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
        The factor of the learning rate at the end, from 0 to 1.

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


@LearningRateScheduler.register("warmup_step")
class WarmupStep(WarmupSchedule):
    """
    A linear warm-up to the learning rate of the optimizer, which is then multiplied by `gamma`
    every `step_size` epochs of training.

    Registered as a `LearningRateScheduler` with name "warmup_step".

    # Parameters

    step_size : `float`
        In epochs from the start of training, warm-up included; less than `num_epochs`.
    gamma : `float`, optional (default = `0.1`)
        The factor of the learning rate, from 0 to 1.

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
