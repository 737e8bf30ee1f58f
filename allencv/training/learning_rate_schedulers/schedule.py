import logging
from typing import Any, Dict, List, Optional

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.common.checks import CheckedFromParams

logger = logging.getLogger(__name__)


class Schedule(CheckedFromParams, LearningRateScheduler):
    """
    The base of schedules whose learning rate depends on the progress of training. The rate is set
    `num_updates` times: before each optimizer step, or before each epoch. Update `n` sets the rate
    of step or epoch `n`, counted from 0, as in torch's and timm's schedules.

    The learning rates of all parameter groups are multiplied by the same number, so the ratios set
    by the optimizer's `parameter_groups` and `layer_decay` stay.

    # Parameters

    optimizer : `torch.optim.Optimizer`
        This argument does not get an entry in a configuration file.
    num_epochs : `int`
        The length of the schedule. The default is that of training, passed by the trainer. After a
        shorter schedule the last learning rate stays; a longer one is an error.
    num_steps_per_epoch : `int`, optional (default = `None`)
        Optimizer steps in an epoch. The trainer passes it if the data loader knows its length. Set
        it in the config if not, as for streamed data.
    by_epoch : `bool`, optional (default = `False`)
        Whether to set the learning rate once for each epoch instead of for each step.

    # Raises

    `ConfigurationError` for a schedule by steps without their number, for one longer than training,
    and for an optimizer whose learning rate cannot be set.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        num_epochs: int,
        num_steps_per_epoch: Optional[int] = None,
        by_epoch: bool = False,
    ) -> None:
        if any(group.get("lr") is None for group in optimizer.param_groups):
            raise ConfigurationError(
                "trainer.optimizer.lr is None; expected a number that the learning_rate_scheduler "
                "can multiply"
            )
        if num_steps_per_epoch is None and not by_epoch:
            raise ConfigurationError(
                "trainer.learning_rate_scheduler.num_steps_per_epoch is None, and the data loader "
                "does not know its length (it streams shards without an index, or on several "
                "ranks); expected the number of steps in an epoch, or by_epoch: true"
            )
        for key, value in {
            "num_epochs": num_epochs,
            "num_steps_per_epoch": num_steps_per_epoch,
        }.items():
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"learning_rate_scheduler.{key} is {value}; expected at least 1"
                )
        super().__init__(optimizer)
        self.num_epochs = num_epochs
        self.by_epoch = by_epoch
        self.updates_per_epoch = 1 if by_epoch else num_steps_per_epoch or 1
        self.num_updates = num_epochs * self.updates_per_epoch
        self.num_steps = 0  # the last step that `step_batch` has prepared
        self.shift = 0  # how much later in the schedule than its number a step is

    @classmethod
    def from_params(cls, params: Params, *args: Any, **extras: Any) -> Any:
        for key, training in {
            "num_epochs": "trainer.num_epochs is",
            "num_steps_per_epoch": "an epoch of the data loader has",
        }.items():
            said, known = params.get(key), extras.get(key)
            if said is not None and known is not None and said > known:
                raise ConfigurationError(
                    f"learning_rate_scheduler.{key} is {said}, longer than training: {training} "
                    f"{known}; expected no more, or no {key} at all"
                )
        return super().from_params(params, *args, **extras)

    def set_update(self, update: int) -> None:
        """
        Set the learning rates for an update from 0 to `num_updates`. The last one holds when the
        schedule is over.
        """
        raise NotImplementedError

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.by_epoch:  # else it is set before the next step
            self.set_update(min(self.last_epoch + 1, self.num_updates))

    def go_on_at(self, update: int) -> None:
        """Make `update` the next one, because the epochs so far had other numbers of steps."""
        self.shift = update - self.num_steps

    def get_values(self) -> List[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def step_batch(self, batch_num_total: Optional[int] = None) -> None:
        """Set the rate before an optimizer step, counted from 1."""
        self.num_steps = batch_num_total or self.num_steps + 1
        if self.by_epoch:
            return
        update = self.num_steps - 1 + self.shift
        self.set_update(min(update, self.num_updates))
        if update == self.num_updates:
            logger.warning(
                "The learning rate schedule ends after %d steps (%d epochs of %d), and training "
                "continues; the learning rate stays at %s.",
                self.num_updates,
                self.num_epochs,
                self.updates_per_epoch,
                self.get_values(),
            )

    def step(self, metric: Optional[float] = None) -> None:
        """Set the rate after an epoch."""
        self.last_epoch += 1
        if self.by_epoch:
            self.set_update(min(self.last_epoch + 1, self.num_updates))
