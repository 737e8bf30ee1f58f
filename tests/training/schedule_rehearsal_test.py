from typing import Any, Dict, Optional

import pytest
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.momentum_schedulers import MomentumScheduler

import allencv.training  # noqa: F401
from allencv.training.schedule_rehearsal import rehearsed

KEY = "trainer.learning_rate_scheduler"


def optimizer(momentum: float = 0.9) -> torch.optim.Optimizer:
    weight = torch.nn.Parameter(torch.ones(2))
    return torch.optim.SGD([weight], lr=0.1, momentum=momentum)


def build(
    config: Dict[str, Any],
    num_epochs: int = 3,
    steps: Optional[int] = 4,
    base: Any = LearningRateScheduler,
) -> Any:
    lazy = rehearsed(KEY, Lazy(base, Params(config)), num_epochs, steps)
    given = {"num_epochs": num_epochs, "num_steps_per_epoch": steps}
    given = given if base is LearningRateScheduler else {}
    return lazy.construct(optimizer=optimizer(), **given)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "step", "step_size": 0}, r"step_size': 0}, which fails in epoch 1 \(ZeroDiv"),
        ({"type": "step", "step_size": 1, "gamma": -1.0}, "makes the learning rate -0.1 after ep"),
        ({"type": "exponential", "gamma": 1e200}, "makes the learning rate inf after epoch 2"),
        ({"type": "cosine", "t_initial": 1, "t_mul": 0.1}, "fails in epoch 1"),
        ({"type": "cosine", "t_initial": 0}, r"fails before training \(AssertionError\)"),
        ({"type": "noam", "model_size": 0, "warmup_steps": 2}, "fails in epoch 1"),
        ({"type": "reduce_on_plateau", "min_lr": [0.1, 0.2]}, "expected 1 min_lrs, got 2"),
        (
            {
                "type": "combined",
                "schedulers": [[1, "constant"], [2, {"type": "step", "step_size": 0}]],
            },
            "fails in epoch 1",
        ),
        ({"type": "warmup_cosine", "warmup_epochs": 3}, "warmup_epochs is 3; expected"),
    ],
    ids=str,
)
def test_a_schedule_that_cannot_be_followed_is_refused_at_the_start(
    config: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as refused:
        build(config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"type": "linear_with_warmup", "warmup_steps": 13},
            f"{KEY}.warmup_steps is 13, longer than training, which has 12 steps",
        ),
        (
            {"type": "constant_with_warmup", "num_warmup_steps": 4},
            f"{KEY}.num_warmup_steps is 4, longer than training, which has 3 epochs",
        ),
    ],
    ids=str,
)
def test_a_warmup_longer_than_training_is_a_warning(
    config: Dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A trial of few epochs keeps the warm-up of the long run."""
    build(config)
    assert message in caplog.text


def test_a_momentum_schedule_is_rehearsed_too() -> None:
    config = {"type": "inverted_triangular", "cool_down": 1, "warm_up": 1, "ratio": 0}
    with pytest.raises(ConfigurationError, match="fails in epoch 1"):
        build(config, base=MomentumScheduler)
    assert build({**config, "ratio": 10}, base=MomentumScheduler).last_epoch == -1


@pytest.mark.parametrize(
    "config",
    [
        {"type": "step", "step_size": 1},
        {"type": "warmup_cosine", "warmup_epochs": 1},
        {"type": "one_cycle"},
        {"type": "reduce_on_plateau"},
        {"type": "linear_with_warmup", "warmup_steps": 2},
        {
            "type": "combined",
            "schedulers": [[1, "warmup_constant"], [2, {"type": "cosine", "t_initial": 2}]],
        },
    ],
    ids=str,
)
def test_the_rehearsal_leaves_no_trace(config: Dict[str, Any]) -> None:
    given = {"num_epochs": 3, "num_steps_per_epoch": 4}
    expected = LearningRateScheduler.from_params(
        Params(dict(config)), optimizer=optimizer(), **given
    )
    found = build(config)
    for _ in range(3):
        for scheduler in (expected, found):
            for _ in range(4):
                scheduler.step_batch()
            scheduler.step(0.5)
        groups = (
            [scheduler.optimizer.param_groups for scheduler in (expected, found)]
            if hasattr(found, "optimizer")
            else [scheduler.lr_scheduler.optimizer.param_groups for scheduler in (expected, found)]
        )
        assert [group["lr"] for group in groups[0]] == [group["lr"] for group in groups[1]]


def test_a_schedule_of_a_users_own_is_not_rehearsed() -> None:
    class Counted(LearningRateScheduler):
        def step(self, metric: Optional[float] = None) -> None:
            raise AssertionError("only training calls this")

    lazy = rehearsed(KEY, Lazy(Counted), 3, 4)
    assert isinstance(lazy.construct(optimizer=optimizer()), Counted)


def test_many_steps_take_no_time() -> None:
    scheduler = build({"type": "warmup_cosine"}, num_epochs=10**6, steps=10**6)
    assert scheduler.num_updates == 10**12
