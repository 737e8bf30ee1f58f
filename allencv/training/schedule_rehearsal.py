"""Find out at the start of training whether a schedule can be followed to its end."""

import logging
import math
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Union

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler

from allencv.common.quiet import quiet

logger = logging.getLogger(__name__)

Scheduler = Union[LearningRateScheduler, MomentumScheduler]

KNOWN = ("allencv.", "allennlp.")
"""The packages whose schedulers change nothing but an optimizer's parameter groups."""
MOST_EPOCHS = 1000
"""The most epochs that are rehearsed."""
WARMUPS = {"warmup_steps": "steps", "num_warmup_steps": "epochs"}
"""The keys of warm-ups, and the units in which AllenNLP's schedulers count them."""


def rehearsed(
    key: str, scheduler: Lazy[Scheduler], num_epochs: int, steps_per_epoch: Optional[int]
) -> Lazy[Scheduler]:
    """Return a scheduler that is rehearsed before it is built."""

    def construct(optimizer: torch.optim.Optimizer, **given: Any) -> Scheduler:
        config = scheduler._params.as_dict(quiet=True)
        build = partial(scheduler.construct, **given)
        rehearse(key, config, build, optimizer, num_epochs, steps_per_epoch)
        return scheduler.construct(optimizer=optimizer, **given)

    return Lazy(construct)


def rehearse(
    key: str,
    config: Mapping[str, Any],
    construct: Callable[..., Scheduler],
    optimizer: torch.optim.Optimizer,
    num_epochs: int,
    steps_per_epoch: Optional[int],
) -> Scheduler:
    """
    Build a schedule for a copy of an optimizer's parameter groups, and run the first steps and the
    last of each epoch. Return the scheduler.

    # Parameters

    key : `str`, required
        The scheduler's place in the config, for messages.
    config : `Mapping[str, Any]`, required
        The scheduler's config, for messages.
    construct : `Callable[..., Scheduler]`, required
        Builds the scheduler when it is called with an `optimizer`.
    steps_per_epoch : `int`, required
        Optimizer steps in an epoch, if known.

    # Raises

    `ConfigurationError` if a learning rate or a momentum is negative, infinite or not a number, or
    if the schedule raises an error. A warm-up longer than training is a warning.
    """
    lengths = {"steps": (steps_per_epoch or math.inf) * num_epochs, "epochs": num_epochs}
    for name, unit in WARMUPS.items():
        warmup = config.get(name)
        if isinstance(warmup, (int, float)) and warmup > lengths[unit]:
            # Not an error: a trial of few epochs keeps the warm-up of the long run.
            logger.warning(
                "%s.%s is %s, longer than training, which has %s %s (trainer.num_epochs is %s): "
                "the learning rate does not reach its full value",
                *(key, name, warmup, lengths[unit], unit, num_epochs),
            )
    stand_in = _stand_in(optimizer)
    when = "before training"
    try:
        with quiet():
            scheduler = construct(optimizer=stand_in)
            if not type(scheduler).__module__.startswith(KNOWN):
                return scheduler
            field = "lr"
            if isinstance(scheduler, MomentumScheduler):
                field = scheduler.param_group_field
            for epoch in range(min(num_epochs, MOST_EPOCHS)):
                when = f"in epoch {epoch + 1}"
                length = steps_per_epoch or 1
                for step in sorted({1, 2, length} - set(range(length + 1, 3))):
                    scheduler.step_batch(epoch * length + step)
                    _check(key, config, field, stand_in, when)
                scheduler.step(0.0)
                _check(key, config, field, stand_in, f"after epoch {epoch + 1}")
        return scheduler
    except ConfigurationError:
        raise
    except Exception as error:  # whatever a library says of its arguments
        first, *_ = str(error).splitlines() or [""]
        reason = f"{type(error).__name__}: {first}".removesuffix(": ")
        raise ConfigurationError(
            f"{key} is {dict(config)}, which fails {when} ({reason}); expected other values"
        ) from error


def _check(
    key: str, config: Mapping[str, Any], field: str, optimizer: torch.optim.Optimizer, when: str
) -> None:
    name = "learning rate" if field == "lr" else field
    for group in optimizer.param_groups:
        value = group.get(field)
        if value is not None and not 0 <= float(value) < math.inf:
            raise ConfigurationError(
                f"{key} is {dict(config)}, which makes the {name} {value} {when}; expected values "
                "that keep it at 0 or more"
            )


def _stand_in(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer with the same parameter group settings, for empty parameters."""
    groups: List[Dict[str, Any]] = [
        {**group, "params": [torch.nn.Parameter(torch.empty(0)) for _ in group["params"]]}
        for group in optimizer.param_groups
    ]
    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.empty(0))], lr=0.1)
    stand_in.param_groups = groups
    stand_in.defaults = dict(optimizer.defaults)
    return stand_in
