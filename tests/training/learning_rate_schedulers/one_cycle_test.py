import warnings
from typing import Any, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from torch.optim.lr_scheduler import OneCycleLR

from tests.training.learning_rate_schedulers.sequences import (
    make_optimizer,
    make_schedule,
    rates,
    torch_rates,
    walk,
)


def test_by_hand() -> None:
    """Of ten steps the fourth is the highest: the rise takes as many as 0.4 of all, less one."""
    found = rates("one_cycle", 2, 5, pct_start=0.4, anneal_strategy="linear", div_factor=4)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert found[-1] == pytest.approx(0.25e-4)
    assert found[3:] == sorted(found[3:], reverse=True)


@pytest.mark.parametrize(
    "arguments", [{}, {"pct_start": 0, "div_factor": 10.0}, {"pct_start": 0.4, "three_phase": True}]
)
@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_it_is_torchs(arguments: Dict[str, Any], anneal_strategy: str) -> None:
    arguments = {**arguments, "anneal_strategy": anneal_strategy}

    def make(optimizer: torch.optim.Optimizer) -> OneCycleLR:
        floats = {**arguments, "pct_start": float(arguments.get("pct_start", 0.3))}
        return OneCycleLR(optimizer, max_lr=1.0, total_steps=20, **floats)

    assert rates("one_cycle", **arguments) == torch_rates(make, 20)


def test_by_epoch() -> None:
    def make(optimizer: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(optimizer, max_lr=1.0, total_steps=4)

    expected = [rate for rate in torch_rates(make, 4) for _ in range(5)]
    assert rates("one_cycle", by_epoch=True) == expected


def test_momentum_falls_while_the_learning_rate_rises() -> None:
    optimizer = make_optimizer(momentum=0.6)
    schedule = make_schedule(optimizer, "one_cycle", pct_start=0.4)
    seen = walk(optimizer, schedule, read=lambda group: (group["lr"], group["momentum"]))
    momenta = [momentum for _, momentum in seen]
    assert (momenta[0], min(momenta), momenta[-1]) == pytest.approx((0.95, 0.85, 0.95))
    assert momenta.index(min(momenta)) == 7
    assert max(seen) == (1.0, min(momenta))


def test_betas_are_cycled_where_there_are_any() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1, betas=(0.6, 0.99))
    schedule = make_schedule(optimizer, "one_cycle", max_momentum=0.9, base_momentum=0.8)
    seen = walk(optimizer, schedule, read=lambda group: group["betas"])
    assert {second for _, second in seen} == {0.99}
    assert (seen[0][0], min(seen)[0]) == pytest.approx((0.9, 0.8))


def test_momentum_that_is_left_alone() -> None:
    optimizer = make_optimizer(momentum=0.6)
    schedule = make_schedule(optimizer, "one_cycle", cycle_momentum=False)
    assert set(walk(optimizer, schedule, read=lambda group: group["momentum"])) == {0.6}


def test_the_log_tells_what_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "allencv"):
        make_schedule(make_optimizer(momentum=0.6), "one_cycle")
    assert "from 0.95 to 0.85 and back, and replaces the optimizer's momentum 0.6" in caplog.text


def test_training_that_goes_on_keeps_the_last_learning_rate() -> None:
    optimizer = make_optimizer()
    seen = walk(optimizer, make_schedule(optimizer, "one_cycle"), end=25)
    assert seen[20:] == [seen[19]] * 5


def test_recovered_it_goes_on_without_a_word() -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, "one_cycle")
    walk(optimizer, schedule, 0, 7)
    states = optimizer.state_dict(), schedule.state_dict()
    expected = walk(optimizer, schedule, 7)

    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, "one_cycle")
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns if it is stepped before the optimizer is
        assert walk(optimizer, schedule, 7) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"anneal_strategy": "cosine"}, "anneal_strategy is 'cosine'; expected one of cos, linear"),
        ({"pct_start": 1.5}, "pct_start is 1.5; expected a number from 0 to 1"),
        ({"pct_start": 0.6, "three_phase": True}, "pct_start is 0.6; expected .* from 0 to 0.5"),
        ({"pct_start": 0.05}, "but not exactly 1 of the 20 updates"),
        ({"warmup_epochs": 1}, "a key of OneCycle is 'warmup_epochs'; expected one of"),
    ],
)
def test_bad_input(arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rates("one_cycle", **arguments)


def test_an_optimizer_without_momentum() -> None:
    optimizer = torch.optim.Rprop([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(ConfigurationError, match="cycle_momentum is true.*expected false"):
        make_schedule(optimizer, "one_cycle")
    make_schedule(optimizer, "one_cycle", cycle_momentum=False)
