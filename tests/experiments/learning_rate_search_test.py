import math
from pathlib import Path

import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.experiments.learning_rate_search import learning_rates_and_losses, smooth, suggest
from tests.configs import experiment


def test_smoothing_worked_out_by_hand() -> None:
    first, second, third = smooth([4.0, 2.0, 1.0], momentum=0.5)
    assert first == 4
    assert second == pytest.approx((0.25 * 4 + 0.5 * 2) / 0.75)
    assert third == pytest.approx((0.125 * 4 + 0.25 * 2 + 0.5 * 1) / 0.875)


def test_the_steepest_fall_before_the_minimum_is_suggested() -> None:
    rates = np.logspace(-5, 0, 51)
    # Falls around 1e-2, and explodes from 1e-1 on.
    losses = 2 - np.tanh((np.log10(rates) + 2) * 3) + np.exp(np.log10(rates) * 8 + 5)
    assert math.log10(suggest(rates, losses)) == pytest.approx(-2, abs=0.11)
    losses[-3:] = np.nan
    assert math.log10(suggest(rates, losses)) == pytest.approx(-2, abs=0.11)


def test_a_loss_that_only_rises() -> None:
    with pytest.raises(ConfigurationError, match="the loss does not fall between .* 1e-05 and 1;"):
        suggest(np.logspace(-5, 0, 20), np.arange(20.0))


@pytest.mark.parametrize("trainer", ["image", "gradient_descent"])
def test_the_loss_of_a_config_falls(trainer: str, cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(cats_and_dogs, trainer__type=trainer)
    rates, losses = learning_rates_and_losses(
        Params(config), str(tmp_path), start_lr=1e-4, end_lr=1, num_batches=30
    )
    assert rates == pytest.approx(list(1e-4 * 1e4 ** (np.arange(31) / 30)))
    assert min(losses) < losses[0]
    assert 1e-4 < suggest(rates, losses) < 1


def test_not_in_distributed_training(cats_and_dogs: Path) -> None:
    config = {**experiment(cats_and_dogs), "distributed": {"cuda_devices": [-1, -1]}}
    with pytest.raises(ConfigurationError, match="find-lr searches on one device"):
        learning_rates_and_losses(Params(config))
