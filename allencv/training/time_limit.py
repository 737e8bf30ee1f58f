"""End training in time, with a learning rate schedule that has come to its end."""

import re
from collections import deque
from typing import Deque

from allennlp.common.checks import ConfigurationError

UNITS = {"s": 1, "m": 60, "h": 3600}
WINDOW = 20
"""The number of steps whose time shows the present speed."""
SLOW_STEPS = 5
"""The first steps, which are slower than those that follow."""
VALIDATION_TO_TRAINING = 1 / 3
"""The time of a batch in validation to that in training, until a validation has been timed."""


def seconds_of(key: str, text: str) -> float:
    """Convert `"90s"`, `"10m"` or `"1.5h"` to seconds. Raise `ConfigurationError` for others."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigurationError(f"{key} is {text!r}; expected a time such as 90s, 10m or 1.5h")
    return float(found[1]) * UNITS[found[2]]


class TimeLimit:
    """
    Tells at each step how far the schedule of the learning rate has come, so that it ends in time.

    While the steps that are left fit into the time that is left, each advances the schedule by one
    step. On a machine that gets slower, a step advances it by more: training takes fewer steps, and
    the learning rate still falls to its last value. If the machine then gets faster again, training
    ends before its time.

    # Parameters

    seconds : `float`
        The time for all epochs, with their validations and checkpoints.
    num_epochs : `int`
    steps_per_epoch : `int`
        The optimizer steps of an epoch.
    num_validation_batches : `int`
        The batches of a validation.
    """

    def __init__(
        self, seconds: float, num_epochs: int, steps_per_epoch: int, num_validation_batches: int
    ) -> None:
        self.seconds = seconds
        self.num_steps = num_epochs * steps_per_epoch
        self.step = 0.0
        """The place in the schedule, from 0 to `num_steps`."""
        self._steps_per_epoch = steps_per_epoch
        self._steps_taken = 0
        self._between_epochs = 0.0
        """The seconds of all validations and checkpoints so far."""
        self._validation_in_steps = num_validation_batches * VALIDATION_TO_TRAINING
        """How many steps take as long as a validation with its checkpoint."""
        self._times: Deque[float] = deque(maxlen=WINDOW + 1)
        self._first_time = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the schedule has come to its end."""
        return self.step >= self.num_steps

    def advance(self, elapsed: float) -> int:
        """
        Return the step of the schedule, from 1 to `num_steps`, that the next optimizer step takes.
        `elapsed` are the seconds of training so far.
        """
        self._times.append(elapsed - self._between_epochs)
        self._steps_taken += 1
        if self._steps_taken == SLOW_STEPS:
            self._first_time = self._times[-1]
        left = self.num_steps - self.step
        stride = 1.0
        if self._steps_taken > SLOW_STEPS + 1:
            stride = max(1.0, left / max(1.0, self._steps_that_fit(self.seconds - elapsed)))
        self.step = min(self.step + stride, float(self.num_steps))
        return int(self.step)

    def add_validation(self, seconds: float) -> None:
        """Tell how long it took from the last step of an epoch to the first of the next one."""
        self._between_epochs += seconds
        if self._steps_taken > SLOW_STEPS + 1:
            self._validation_in_steps = seconds / self._seconds_per_step()

    def _seconds_per_step(self) -> float:
        """Return the time of a step, at the slower of two speeds: in the last steps, and in all."""
        steps = min(len(self._times) - 1, self._steps_taken - SLOW_STEPS)
        last = (self._times[-1] - self._times[-1 - steps]) / steps
        all_steps = (self._times[-1] - self._first_time) / (self._steps_taken - SLOW_STEPS)
        return max(last, all_steps, 1e-9)

    def _steps_that_fit(self, seconds: float) -> float:
        """Return how many steps fit into a time, together with their validations."""
        steps = seconds / self._seconds_per_step()
        into_epoch = self._steps_taken % self._steps_per_epoch
        with_validation = self._steps_per_epoch + self._validation_in_steps
        epochs, rest = divmod(into_epoch + steps, with_validation)
        in_last_epoch = max(0.0, min(rest - self._validation_in_steps, self._steps_per_epoch))
        return epochs * self._steps_per_epoch + in_last_epoch - into_epoch
