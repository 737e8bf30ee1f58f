"""Learning rates as training sets them, and as the schedules of torch and timm do."""

from typing import Any, Callable, List, Optional, Sequence

import torch
from allennlp.common import Lazy, Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler


def make_optimizer(rates: Sequence[float] = (1.0,), **arguments: Any) -> torch.optim.Optimizer:
    """One group for each learning rate."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, **arguments)


def make_schedule(
    optimizer: torch.optim.Optimizer,
    kind: str,
    epochs: int = 4,
    steps: Optional[int] = 5,
    **params: Any,
) -> LearningRateScheduler:
    """From a config, by a trainer that knows the epochs, and the steps of each."""
    return Lazy(LearningRateScheduler, params=Params({"type": kind, **params})).construct(
        optimizer=optimizer, num_epochs=epochs, num_steps_per_epoch=steps
    )


def walk(
    optimizer: torch.optim.Optimizer,
    schedule: LearningRateScheduler,
    start: int = 0,
    end: int = 20,
    steps_per_epoch: int = 5,
    read: Callable[[dict], Any] = lambda group: group["lr"],
) -> List[Any]:
    """What the steps from `start` to before `end` are made with, in the first group."""
    seen = []
    for step in range(start, end):
        schedule.step_batch(step + 1)
        seen.append(read(optimizer.param_groups[0]))
        optimizer.step()
        if (step + 1) % steps_per_epoch == 0:
            schedule.step(None)
    return seen


def rates(kind: str, epochs: int = 4, steps: int = 5, **params: Any) -> List[float]:
    """The learning rate of each step of a training, where the optimizer says 1."""
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, kind, epochs, steps, **params)
    return walk(optimizer, schedule, 0, epochs * steps, steps)


def torch_rates(make: Callable[[torch.optim.Optimizer], Any], updates: int) -> List[float]:
    """Of a schedule of `torch.optim.lr_scheduler` that starts from 1."""
    optimizer = make_optimizer()
    schedule = make(optimizer)
    seen = []
    for _ in range(updates):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def timm_rates(scheduler: type, updates: int, warmup: float, **arguments: Any) -> List[float]:
    """Of a schedule of `timm.scheduler` with a warm-up to 1 as ours, update after update."""
    optimizer = make_optimizer()
    schedule = scheduler(
        optimizer, warmup_t=warmup, warmup_lr_init=1 / (warmup + 1), t_in_epochs=False, **arguments
    )
    seen = []
    for update in range(updates):
        schedule.step_update(update)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen
