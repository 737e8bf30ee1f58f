import pytest
from timm.scheduler import StepLRScheduler

from tests.training.learning_rate_schedulers.sequences import rates, timm_rates


def test_by_hand() -> None:
    expected = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    assert rates("warmup_constant", 2, 3, warmup_epochs=1) == pytest.approx(expected)


def test_it_is_timms() -> None:
    expected = timm_rates(StepLRScheduler, 20, 7, decay_t=1, decay_rate=1.0)
    assert rates("warmup_constant", warmup_steps=7) == pytest.approx(expected)


def test_without_warmup_nothing_changes() -> None:
    assert rates("warmup_constant") == [1.0] * 20
