from typing import List

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from tests.training.learning_rate_schedulers.sequences import rates, torch_rates


def test_by_hand() -> None:
    """Milestones are counted from the beginning of training: two epochs before the first."""
    expected = [1 / 2, 1, 0.5, 0.25, 0.25]
    found = rates("warmup_multi_step", 5, 1, milestones=[2, 3], gamma=0.5, warmup_epochs=1)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_without_warmup_it_is_torchs(by_epoch: bool) -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[5, 15], gamma=0.1)

    found = rates("warmup_multi_step", milestones=[1, 3], by_epoch=by_epoch)
    assert found == pytest.approx(torch_rates(make, 20))


def test_half_an_epoch() -> None:
    found = rates("warmup_multi_step", 2, 4, milestones=[0.5, 1.5], gamma=0.5)
    assert found == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("milestones", [[], [3, 2], [0, 2], [2, 4], [2, 30]])
def test_milestones_out_of_training_or_order(milestones: List[float]) -> None:
    with pytest.raises(ConfigurationError) as error:
        rates("warmup_multi_step", milestones=milestones)
    assert str(milestones) in str(error.value)
    assert "(trainer.num_epochs is 4)" in str(error.value)


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="gamma is -1; expected a number from 0 to 1"):
        rates("warmup_multi_step", milestones=[1], gamma=-1)
