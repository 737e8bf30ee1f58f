from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError

from allencv.training.learning_rate_schedulers.schedule import Schedule


def check_factor(key: str, value: float) -> None:
    """Raises a `ConfigurationError` if what the learning rate is multiplied by is not a part."""
    if not 0 <= value <= 1:
        raise ConfigurationError(
            f"learning_rate_scheduler.{key} is {value}; expected a number from 0 to 1"
        )


class WarmupSchedule(Schedule):
    """
    The base of schedules that begin with a linear warm-up (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677). In a warm-up of `n` updates the learning rate is that of the
    optimizer times `1 / (n + 1)`, `2 / (n + 1)`, ...; the first update after it has the whole.

    # Parameters

    warmup_epochs : `float`, optional (default = `0.0`)
        The length of the warm-up in epochs, of which it may take a fraction: 0.5 is half an epoch.
        It is a part of `num_epochs`.
    warmup_steps : `float`, optional (default = `None`)
        The same in steps of the optimizer, in place of `warmup_epochs`.

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
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer, num_epochs, **kwargs)
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
        """What the learning rate is multiplied by in an update that is not of the warm-up."""
        raise NotImplementedError

    def progress(self, update: int) -> float:
        """The part of the time after the warm-up that has passed: from 0 to 1."""
        return (update - self.warmup) / (self.num_updates - self.warmup)

    def set_update(self, update: int) -> None:
        factor = (update + 1) / (self.warmup + 1)
        if update >= self.warmup:
            factor = self.after_warmup(update)
        for group, base in zip(self.optimizer.param_groups, self.base_values):
            group["lr"] = base * factor
