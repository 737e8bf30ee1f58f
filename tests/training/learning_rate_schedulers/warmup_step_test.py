import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.scheduler import StepLRScheduler

from tests.training.learning_rate_schedulers.sequences import rates, timm_rates, torch_rates


def test_by_hand() -> None:
    """Step sizes are counted from the beginning of training."""
    expected = [1 / 2, 1, 0.1, 0.1, 0.01, 0.01]
    found = rates("warmup_step", 6, 1, step_size=2, warmup_epochs=1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0, 7])
def test_by_step_it_is_timms(warmup: int) -> None:
    expected = timm_rates(
        StepLRScheduler, 20, warmup, decay_t=5, decay_rate=0.3, warmup_prefix=False
    )
    found = rates("warmup_step", warmup_steps=warmup, step_size=1, gamma=0.3)
    assert found == pytest.approx(expected)


def test_by_epoch_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.2)

    found = rates("warmup_step", 8, 1, by_epoch=True, step_size=3, gamma=0.2)
    assert found == pytest.approx(torch_rates(make, 8))


def test_half_an_epoch() -> None:
    found = rates("warmup_step", 2, 4, step_size=0.5, gamma=0.5)
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]


@pytest.mark.parametrize("step_size", [0, 4, 30])
def test_a_step_as_long_as_training(step_size: float) -> None:
    message = rf"step_size is {step_size}; expected .* \(trainer.num_epochs is 4\)"
    with pytest.raises(ConfigurationError, match=message):
        rates("warmup_step", step_size=step_size)


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="gamma is 10; expected a number from 0 to 1"):
        rates("warmup_step", step_size=1, gamma=10)
