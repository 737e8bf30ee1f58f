import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.scheduler import PolyLRScheduler

from tests.training.learning_rate_schedulers.sequences import rates, timm_rates, torch_rates


def test_by_hand() -> None:
    expected = [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]
    assert rates("warmup_polynomial", 3, 2, warmup_epochs=1) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.5, 2.0])
@pytest.mark.parametrize("warmup", [0, 7])
def test_by_step_it_is_timms(warmup: int, power: float) -> None:
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


def test_without_warmup_it_is_torchs() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=2.0)

    assert rates("warmup_polynomial", power=2) == pytest.approx(torch_rates(make, 20))


def test_by_epoch() -> None:
    found = rates("warmup_polynomial", 3, 2, by_epoch=True, warmup_epochs=1)
    assert found == pytest.approx([0.5, 0.5, 1, 1, 0.5, 0.5])


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="power is 0; expected a number above 0"):
        rates("warmup_polynomial", power=0)
    with pytest.raises(ConfigurationError, match="end_factor is 2; expected a number from 0 to 1"):
        rates("warmup_polynomial", end_factor=2)
