from typing import List

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.scheduler import (
    CosineLRScheduler,
    MultiStepLRScheduler,
    PolyLRScheduler,
    StepLRScheduler,
)

from tests.training.learning_rate_schedulers.sequences import (
    make_optimizer,
    make_schedule,
    rates,
    timm_rates,
    torch_rates,
)


def test_constant_by_hand() -> None:
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    assert rates("warmup_constant", 2, 3, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_a_warmup_as_a_share_of_training(by_epoch: bool) -> None:
    for num_epochs in (4, 10):
        expected = rates(
            "warmup_cosine", num_epochs, warmup_epochs=num_epochs / 4, by_epoch=by_epoch
        )
        found = rates("warmup_cosine", num_epochs, warmup_ratio=0.25, by_epoch=by_epoch)
        assert found == expected


def test_a_warmup_as_a_share_of_one_epoch_of_one_step() -> None:
    assert rates("warmup_cosine", 1, 1, warmup_ratio=0.2) == pytest.approx([1 / 1.2])


def test_constant_it_is_timms() -> None:
    expected = timm_rates(StepLRScheduler, 20, 7, decay_t=1, decay_rate=1.0)
    assert rates("warmup_constant", warmup_steps=7) == pytest.approx(expected)


def test_constant_without_warmup_nothing_changes() -> None:
    assert rates("warmup_constant") == [1.0] * 20


def test_cosine_by_hand() -> None:
    """Four epochs of one step: a warm-up of one, and then 1 + cos of 0, 60 and 120 degrees."""
    expected = [1 / 2, 1, 0.75, 0.25]
    assert rates("warmup_cosine", 4, 1, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("end_factor", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0, 7])
def test_cosine_by_step_it_is_timms(warmup: int, end_factor: float) -> None:
    expected = timm_rates(
        CosineLRScheduler,
        20,
        warmup,
        t_initial=20 - warmup,
        warmup_prefix=True,
        lr_min=end_factor,
    )
    found = rates("warmup_cosine", warmup_steps=warmup, end_factor=end_factor)
    assert found == pytest.approx(expected)


def test_cosine_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    assert rates("warmup_cosine") == pytest.approx(torch_rates(make, 20))


def test_cosine_by_epoch() -> None:
    per_epoch = timm_rates(CosineLRScheduler, 4, 1, t_initial=3, warmup_prefix=True)
    expected = [rate for rate in per_epoch for _ in range(5)]
    assert rates("warmup_cosine", by_epoch=True, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("end_factor", [-0.1, 1.5])
def test_cosine_bad_input(end_factor: float) -> None:
    with pytest.raises(ConfigurationError, match=f"end_factor is {end_factor}; expected a number"):
        rates("warmup_cosine", end_factor=end_factor)


def test_multi_step_by_hand() -> None:
    """Milestones are counted from the beginning of training: two epochs before the first."""
    expected = [1 / 2, 1, 0.5, 0.25, 0.25]
    found = rates("warmup_multi_step", 5, 1, milestones=[2, 3], gamma=0.5, warmup_epochs=1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_multi_step_without_warmup_it_is_torchs(by_epoch: bool) -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 15], gamma=0.1)

    found = rates("warmup_multi_step", milestones=[1, 3], by_epoch=by_epoch)
    assert found == pytest.approx(torch_rates(make, 20))


def test_multi_step_half_an_epoch() -> None:
    found = rates("warmup_multi_step", 2, 4, milestones=[0.5, 1.5], gamma=0.5)
    assert found == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("milestones", [[], [3, 2], [0, 2], [2, 4], [2, 30]])
def test_multi_step_milestones_out_of_training_or_order(milestones: List[float]) -> None:
    with pytest.raises(ConfigurationError) as error:
        rates("warmup_multi_step", milestones=milestones)
    assert str(milestones) in str(error.value)
    assert "(trainer.num_epochs is 4)" in str(error.value)


def test_multi_step_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="gamma is -1; expected a number from 0 to 1"):
        rates("warmup_multi_step", milestones=[1], gamma=-1)


def test_polynomial_by_hand() -> None:
    expected = [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]
    assert rates("warmup_polynomial", 3, 2, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.5, 2.0])
@pytest.mark.parametrize("warmup", [0, 7])
def test_polynomial_by_step_it_is_timms(warmup: int, power: float) -> None:
    expected = timm_rates(
        PolyLRScheduler,
        20,
        warmup,
        t_initial=20 - warmup,
        warmup_prefix=True,
        power=power,
        lr_min=0.2,
    )
    found = rates("warmup_polynomial", warmup_steps=warmup, power=power, end_factor=0.2)
    assert found == pytest.approx(expected)


def test_polynomial_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=2.0)

    assert rates("warmup_polynomial", power=2) == pytest.approx(torch_rates(make, 20))


def test_polynomial_by_epoch() -> None:
    found = rates("warmup_polynomial", 3, 2, by_epoch=True, warmup_epochs=1)
    assert found == pytest.approx([0.5, 0.5, 1, 1, 0.5, 0.5])


def test_polynomial_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="power is 0; expected a number above 0"):
        rates("warmup_polynomial", power=0)
    with pytest.raises(ConfigurationError, match="end_factor is 2; expected a number from 0 to 1"):
        rates("warmup_polynomial", end_factor=2)


def test_step_by_hand() -> None:
    """Step sizes are counted from the beginning of training."""
    expected = [1 / 2, 1, 0.1, 0.1, 0.01, 0.01]
    found = rates("warmup_step", 6, 1, step_size=2, warmup_epochs=1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 7])
def test_step_by_step_it_is_timms(warmup: int) -> None:
    expected = timm_rates(
        StepLRScheduler, 20, warmup, decay_t=5, decay_rate=0.3, warmup_prefix=False
    )
    found = rates("warmup_step", warmup_steps=warmup, step_size=1, gamma=0.3)
    assert found == pytest.approx(expected)


def test_step_by_epoch_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.2)

    found = rates("warmup_step", 8, 1, by_epoch=True, step_size=3, gamma=0.2)
    assert found == pytest.approx(torch_rates(make, 8))


def test_step_half_an_epoch() -> None:
    found = rates("warmup_step", 2, 4, step_size=0.5, gamma=0.5)
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("step_size", [0, 4, 30])
def test_step_a_step_as_long_as_training(step_size: float) -> None:
    message = rf"step_size is {step_size}; expected .* \(trainer.num_epochs is 4\)"
    with pytest.raises(ConfigurationError, match=message):
        rates("warmup_step", step_size=step_size)


def test_step_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="gamma is 10; expected a number from 0 to 1"):
        rates("warmup_step", step_size=1, gamma=10)


# timm's schedules for a warm-up of 2.5 of 20 steps. timm lowers the rate of "multi_step" one
# step before a milestone.
TIMMS = {
    "warmup_cosine": (
        CosineLRScheduler,
        {"t_initial": 17.5, "warmup_prefix": True, "lr_min": 0.1},
        {"end_factor": 0.1},
    ),
    "warmup_polynomial": (
        PolyLRScheduler,
        {"t_initial": 17.5, "warmup_prefix": True, "lr_min": 0.1, "power": 2.0},
        {"end_factor": 0.1, "power": 2.0},
    ),
    "warmup_multi_step": (
        MultiStepLRScheduler,
        {"decay_t": [11, 16], "decay_rate": 0.1, "warmup_prefix": False},
        {"milestones": [2, 3]},
    ),
    "warmup_step": (
        StepLRScheduler,
        {"decay_t": 6.5, "decay_rate": 0.1, "warmup_prefix": False},
        {"step_size": 1.3},
    ),
}


@pytest.mark.parametrize("kind", TIMMS)
@pytest.mark.parametrize("start", [0, 7, 19])
def test_it_is_timms_for_each_group_from_any_step_on(kind: str, start: int) -> None:
    """A recovered run begins in the middle; timm has one warm-up and one end for all groups."""
    scheduler, timms, ours = TIMMS[kind]
    factors = timm_rates(scheduler, 20, 2.5, **timms)
    optimizer = make_optimizer([1.0, 0.1, 0.003])
    schedule = make_schedule(optimizer, kind, warmup_steps=2.5, **ours)
    for step in range(start, 20):
        schedule.step_batch(step + 1)
        expected = [base * factors[step] for base in (1.0, 0.1, 0.003)]
        assert schedule.get_values() == pytest.approx(expected)
