"""Values of optimizer and schedulers that a config has changed since a checkpoint was made."""

import copy
import logging
from typing import Any, Dict, Optional

from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.scheduler import Scheduler

from allencv.training.epoch_batches import count_batches, count_steps
from allencv.training.learning_rate_schedulers.schedule import Schedule
from allencv.training.metric_counts import PLAIN

logger = logging.getLogger(__name__)

Values = Dict[str, Any]


def configured_values(trainer: GradientDescentTrainer) -> Values:
    """
    Return the configured values of a trainer's optimizer and schedulers: their plain values before
    the first step, and the number of steps in an epoch if it is known.
    """
    schedulers = {
        name: {} if scheduler is None else _plain_part(scheduler.state_dict())
        for name, scheduler in _schedulers_of(trainer).items()
    }
    groups = [_plain_part(group) for group in trainer.optimizer.param_groups]
    steps = count_steps(
        count_batches(trainer.data_loader), trainer._num_gradient_accumulation_steps
    )
    return {"groups": groups, "schedulers": schedulers, "steps_per_epoch": steps}


def apply_changes(trainer: GradientDescentTrainer, then: Values, now: Values) -> None:
    """
    Replace the values from a checkpoint whose config has changed. `then` and `now` are what
    `configured_values` returned for the old and the new config. Scheduled learning rates are
    multiplied by the ratio of the configured ones.

    If an epoch has another number of steps now, because of other processes or images, AllenCV's
    schedules go on at the same epoch. A warning names others that count steps.
    """
    for group, before, after in zip(trainer.optimizer.param_groups, then["groups"], now["groups"]):
        base = "initial_lr" if "initial_lr" in before and "initial_lr" in after else "lr"
        for key in after:
            if key != "lr" and after[key] != before.get(key):
                group[key] = after[key]
        if after.get(base) != before.get(base):
            if group["lr"] == before["lr"] or not before[base]:
                group["lr"] = after["lr"]
            else:
                group["lr"] *= after[base] / before[base]
    for name, scheduler in _schedulers_of(trainer).items():
        before, after = then["schedulers"][name], now["schedulers"][name]
        if scheduler is None or after == before:
            continue
        scheduler.load_state_dict(_merged(scheduler.state_dict(), before, after))
        if isinstance(scheduler, Schedule):
            _go_on(scheduler, trainer, before)
        else:
            steps = [each.get("steps_per_epoch") for each in (then, now)]
            _warn_of_steps(name.lstrip("_"), scheduler, *steps)


def _go_on(schedule: Schedule, trainer: GradientDescentTrainer, before: Values) -> None:
    """Let a schedule go on at the epoch of the trainer, if epochs had another number of steps."""
    length = schedule.updates_per_epoch
    if not schedule.by_epoch and before.get("updates_per_epoch") != length:
        epochs = trainer._start_after_epochs_completed
        schedule.go_on_at(epochs * length + trainer._start_after_batches_in_epoch_completed)


def _warn_of_steps(
    name: str, scheduler: Scheduler, then: Optional[int], now: Optional[int]
) -> None:
    counts_steps = type(scheduler).step_batch is not Scheduler.step_batch
    if counts_steps and None not in (then, now) and then != now:
        logger.warning(
            "An epoch has %d steps and had %d before, because of other processes or images; "
            "trainer.%s (%s) counts steps, and reaches its end in another epoch; expected a "
            "schedule of AllenCV, such as warmup_polynomial, which goes on at the same epoch",
            *(now, then, name, type(scheduler).__name__),
        )


def _schedulers_of(trainer: GradientDescentTrainer) -> Dict[str, Optional[Scheduler]]:
    """Return the trainer's schedulers under the names that checkpoints have for them."""
    return {
        "_learning_rate_scheduler": trainer._learning_rate_scheduler,
        "_momentum_scheduler": trainer._momentum_scheduler,
    }


def _plain_part(values: Values) -> Values:
    """Copy the plain part of `values`."""
    return {
        key: _plain_part(value) if isinstance(value, dict) else copy.deepcopy(value)
        for key, value in values.items()
        if key != "params" and (isinstance(value, dict) or _is_plain(value))
    }


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return type(value) in PLAIN


def _merged(state: Values, before: Values, after: Values) -> Values:
    """Take from `after` what differs from `before`, and the rest from `state`."""
    merged = dict(state)
    for key, value in after.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            merged[key] = _merged(state[key], before[key], value)
        elif value != before.get(key):
            merged[key] = value
    return merged
