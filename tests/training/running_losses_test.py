from typing import Any, Dict

import pytest
import torch

from allencv.training.running_losses import RunningLosses, count_images
from tests.ranks import on_ranks


def outputs(loss: float, **others: float) -> Dict[str, Any]:
    return {name: torch.tensor(value) for name, value in {"loss": loss, **others}.items()}


def test_the_mean_over_images_and_the_last() -> None:
    losses = RunningLosses()
    assert losses.read() == {}
    assert losses.read_all_ranks() == {}
    for value, images in ((1.0, 4), (2.0, 4), (6.0, 2)):
        losses.add([outputs(value)], [images])
    assert losses.read() == {"batch_loss": 6.0, "loss": (4 + 8 + 12) / 10}
    assert losses.read() == {"batch_loss": 6.0, "loss": 2.4}
    losses.add([outputs(3.0)], [2])
    assert losses.read() == {"batch_loss": 3.0, "loss": 2.5}
    assert (losses.total, losses.weight, losses.steps) == (30.0, 12.0, 4)


def test_the_loss_of_a_step_is_the_mean_over_its_batches() -> None:
    losses = RunningLosses()
    losses.add([outputs(0.5), outputs(1.5)], [1, 3])
    losses.add([outputs(4.0)], [1])
    assert losses.read() == {"batch_loss": 4.0, "loss": (0.5 + 3 * 1.5 + 4) / 5}
    assert losses.steps == 2
    weighted = RunningLosses()
    weighted.add([outputs(1.0, loss_weight=0.5), outputs(3.0, loss_weight=1.5)], [8, 8])
    assert weighted.read() == {"batch_loss": 2.5, "loss": 2.5}


def losses_of_rank(steps: "list[list[float]]") -> Dict[str, float]:
    losses = RunningLosses()
    for value in steps[torch.distributed.get_rank()]:
        losses.add([outputs(value, reg_loss=1.0)], [2**24 + 1])
    return losses.read_all_ranks()


def test_the_ranks_add_up_their_losses_in_float64() -> None:
    third = float(torch.tensor(1 / 3))  # in float32, as a loss is
    for steps in ([[third], [], [1.0, 1.0]], [[], [], []]):
        found = on_ranks(3, losses_of_rank, steps)
        mean = (third + 2) / 3
        expected = {"loss": pytest.approx(mean, rel=1e-15), "reg_loss": 1.0} if steps[0] else {}
        assert found == [expected] * 3


def test_the_model_says_what_a_batch_counts() -> None:
    losses, other = RunningLosses(), RunningLosses("other")
    for value, weight in ((1.0, 0.5), (3.0, 1.5)):
        for each in (losses, other):
            each.add([outputs(value, loss_weight=weight, other=1.0)], [7])
    assert losses.read()["loss"] == (0.5 + 4.5) / 2
    assert other.read()["loss"] == 2.0


def test_what_counts_nothing_has_no_loss() -> None:
    losses = RunningLosses()
    losses.add([outputs(0.0, loss_weight=0.0)], [4])
    assert losses.read() == {"batch_loss": 0.0, "loss": 0.0}


def test_a_penalty_is_reported_by_itself() -> None:
    losses = RunningLosses()
    for loss, penalty, images in ((3.0, 1.0, 3), (5.0, 2.0, 1)):
        losses.add([outputs(loss, reg_loss=penalty)], [images])
    assert losses.read() == {
        "batch_loss": 5.0,
        "batch_reg_loss": 2.0,
        "loss": 3.5,
        "reg_loss": 1.25,
    }
    assert losses.read_all_ranks() == {"loss": 3.5, "reg_loss": 1.25}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_that_is_not_finite(bad: float) -> None:
    losses = RunningLosses()
    for number in range(6):
        losses.add([outputs(bad if number in (3, 4) else 1.0)], [2])
        if number == 1:
            losses.read()
    assert losses.first_bad is None
    losses.read()
    assert losses.first_bad == 3
    assert str(losses.bad_value) == str(bad)


def test_it_keeps_no_graph() -> None:
    losses = RunningLosses()
    weight = torch.ones((), requires_grad=True)
    losses.add([{"loss": weight * 2, "reg_loss": weight}], [1])
    losses.add([{"loss": weight * 2}, {"loss": weight * 3}], [1, 1])
    for loss, _, penalty in losses._unread:
        assert not loss.requires_grad
        assert penalty is None or not penalty.requires_grad
    assert losses.read() == {"loss": (2 + 5) / 3, "batch_loss": 2.5, "reg_loss": 1 / 3}


def test_images_of_a_batch() -> None:
    label = torch.zeros(5)
    assert count_images({"image": torch.zeros(5, 3, 2, 2), "label": label}) == 5
    assert count_images({"metadata": ["a"] * 5, "tokens": {"ids": torch.zeros(5, 7)}}) == 5
    assert count_images({"metadata": ["a"]}) == 1
