import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.scheduler import CosineLRScheduler

from tests.training.learning_rate_schedulers.sequences import rates, timm_rates, torch_rates


def test_by_hand() -> None:
    """Four epochs of one step: a warm-up of one, and then 1 + cos of 0, 60 and 120 degrees."""
    expected = [1 / 2, 1, 0.75, 0.25]
    assert rates("warmup_cosine", 4, 1, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("end_factor", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0, 7])
def test_by_step_it_is_timms(warmup: int, end_factor: float) -> None:
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


def test_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)

    assert rates("warmup_cosine") == pytest.approx(torch_rates(make, 20))


def test_by_epoch() -> None:
    per_epoch = timm_rates(CosineLRScheduler, 4, 1, t_initial=3, warmup_prefix=True)
    expected = [rate for rate in per_epoch for _ in range(5)]
    assert rates("warmup_cosine", by_epoch=True, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("end_factor", [-0.1, 1.5])
def test_bad_input(end_factor: float) -> None:
    with pytest.raises(ConfigurationError, match=f"end_factor is {end_factor}; expected a number"):
        rates("warmup_cosine", end_factor=end_factor)
