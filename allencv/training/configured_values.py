"""Values of optimizer and schedulers that a config has changed since a checkpoint was made."""

import copy
from typing import Any, Dict, Optional

from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.scheduler import Scheduler

from allencv.training.metric_counts import PLAIN

Values = Dict[str, Any]


def configured_values(trainer: GradientDescentTrainer) -> Values:
    """
    Return the configured values of a trainer's optimizer and schedulers: their plain values before
    the first step.
    """
    schedulers = {
        name: {} if scheduler is None else _plain_part(scheduler.state_dict())
        for name, scheduler in _schedulers_of(trainer).items()
    }
    groups = [_plain_part(group) for group in trainer.optimizer.param_groups]
    return {"groups": groups, "schedulers": schedulers}


def apply_changes(trainer: GradientDescentTrainer, then: Values, now: Values) -> None:
    """
    Replace the values from a checkpoint whose config has changed. `then` and `now` are what
    `configured_values` returned for the old and the new config. Scheduled learning rates are
    multiplied by the ratio of the configured ones.
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
        if scheduler is not None and after != before:
            scheduler.load_state_dict(_merged(scheduler.state_dict(), before, after))


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
