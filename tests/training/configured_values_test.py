"""Schedules by steps, when epochs have another number of steps after a recovery."""

import logging
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common import Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

import allencv.plugin  # noqa: F401
from allencv.training.configured_values import apply_changes, configured_values

EPOCHS = 6
SCHEDULES: List[Dict[str, Any]] = [
    {"type": "warmup_cosine", "warmup_epochs": 1},
    {"type": "one_cycle", "cycle_momentum": False},
]


def trainer_of(config: Dict[str, Any], steps_per_epoch: int) -> Any:
    """As much of a trainer as schedules need."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = LearningRateScheduler.from_params(
        Params(dict(config)),
        optimizer=optimizer,
        num_epochs=EPOCHS,
        num_steps_per_epoch=steps_per_epoch,
    )
    return SimpleNamespace(
        optimizer=optimizer,
        data_loader=[None] * steps_per_epoch,
        _num_gradient_accumulation_steps=1,
        _learning_rate_scheduler=schedule,
        _momentum_scheduler=None,
        steps=0,
    )


def rates(trainer: Any, epochs: int) -> List[float]:
    """The learning rate of each step of some epochs."""
    found = []
    for _ in range(epochs):
        for _ in trainer.data_loader:
            trainer.steps += 1
            trainer._learning_rate_scheduler.step_batch(trainer.steps)
            found.append(trainer.optimizer.param_groups[0]["lr"])
        trainer._learning_rate_scheduler.step()
    return found


def recovered(before: Any, config: Dict[str, Any], steps_per_epoch: int, epochs: int) -> Any:
    """A trainer that goes on after `epochs`, with another number of steps in each."""
    trainer = trainer_of(config, steps_per_epoch)
    trainer.configured = configured_values(trainer)
    trainer.steps = before.steps
    trainer.optimizer.load_state_dict(before.optimizer.state_dict())
    trainer._learning_rate_scheduler.load_state_dict(before._learning_rate_scheduler.state_dict())
    trainer._start_after_epochs_completed = epochs
    trainer._start_after_batches_in_epoch_completed = 0
    apply_changes(trainer, before.configured, trainer.configured)
    return trainer


@pytest.mark.parametrize("config", SCHEDULES, ids=lambda config: config["type"])
@pytest.mark.parametrize(("then", "now"), [(3, 2), (2, 5)])
def test_a_schedule_goes_on_at_the_same_epoch(
    config: Dict[str, Any], then: int, now: int, caplog: pytest.LogCaptureFixture
) -> None:
    before = trainer_of(config, then)
    before.configured = configured_values(before)
    rates(before, 2)
    straight = rates(trainer_of(config, now), EPOCHS)
    after = recovered(before, config, now, 2)
    assert rates(after, 1) == pytest.approx(straight[2 * now : 3 * now])
    again = recovered(after, config, now, 3)  # interrupted once more
    assert rates(again, EPOCHS - 3) == pytest.approx(straight[3 * now :])
    assert "The learning rate schedule ends" not in caplog.text


def test_other_schedules_that_count_steps_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)  # other tests may leave a lower one
    config = {"type": "linear_with_warmup", "warmup_steps": 1}
    before = trainer_of(config, 3)
    before.configured = configured_values(before)
    rates(before, 2)
    recovered(before, config, 3, 2)
    assert not caplog.messages
    recovered(before, config, 2, 2)
    (line,) = caplog.messages
    assert line.startswith("An epoch has 2 steps and had 3 before")
    assert "trainer.learning_rate_scheduler (LinearWithWarmup) counts steps" in line
