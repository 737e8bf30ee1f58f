import pytest
import torch

from allencv.training.running_losses import RunningLosses


def test_the_mean_and_the_last() -> None:
    losses = RunningLosses()
    assert losses.read() == {}
    for value in (1.0, 2.0, 6.0):
        losses.add([{"loss": torch.tensor(value)}])
    assert losses.read() == {"batch_loss": 6.0, "loss": 3.0}
    assert losses.read() == {"batch_loss": 6.0, "loss": 3.0}
    losses.add([{"loss": torch.tensor(3.0)}])
    assert losses.read() == {"batch_loss": 3.0, "loss": 3.0}


def test_batches_of_a_step_add_up() -> None:
    losses = RunningLosses()
    losses.add([{"loss": torch.tensor(0.5)}, {"loss": torch.tensor(1.5)}])
    assert losses.read() == {"batch_loss": 2.0, "loss": 2.0}
    assert losses.count == 1


def test_a_penalty_is_reported_by_itself() -> None:
    losses = RunningLosses()
    for loss, penalty in ((3.0, 1.0), (5.0, 2.0)):
        losses.add([{"loss": torch.tensor(loss), "reg_loss": torch.tensor(penalty)}])
    assert losses.read() == {
        "batch_loss": 5.0,
        "batch_reg_loss": 2.0,
        "loss": 4.0,
        "reg_loss": 1.5,
    }
    assert losses.read_all_ranks() == {"loss": 4.0, "reg_loss": 1.5}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_that_is_not_finite(bad: float) -> None:
    losses = RunningLosses()
    for number in range(6):
        losses.add([{"loss": torch.tensor(bad if number in (3, 4) else 1.0)}])
        if number == 1:
            losses.read()
    assert losses.first_bad is None
    losses.read()
    assert losses.first_bad == 3
    assert str(losses.bad_value) == str(bad)


def test_it_keeps_no_graph() -> None:
    losses = RunningLosses()
    weight = torch.ones((), requires_grad=True)
    losses.add([{"loss": weight * 2}])
    assert not losses._unread[0].requires_grad
