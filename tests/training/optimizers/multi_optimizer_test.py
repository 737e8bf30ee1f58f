from typing import Any, Dict

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from timm.optim.muon import Muon

from allencv.training.learning_rate_schedulers import WarmupPolynomial
from tests.conftest import same_tensors
from tests.training.optimizers.torch_optimizer_test import build, network, saved_and_loaded, train

CONFIG: Dict[str, Any] = {
    "optimizers": {
        "default": {"type": "sgd", "lr": 0.1, "momentum": 0.9},
        "muon": {"type": "muon", "lr": 0.2, "nesterov": True, "adjust_lr_fn": "original"},
    },
    "parameter_groups": [[["^0.weight"], {"optimizer_name": "muon"}]],
}


def test_muon_for_kernels_and_sgd_for_the_rest_are_timms_and_torchs() -> None:
    ours, theirs = network(), network()
    kernel, *others = theirs.parameters()
    separate = [
        Muon([kernel], lr=0.2, nesterov=True, adjust_lr_fn="original"),
        torch.optim.SGD(others, lr=0.1, momentum=0.9),
    ]

    class Both:
        def zero_grad(self) -> None:
            theirs.zero_grad()

        def step(self) -> None:
            for optimizer in separate:
                optimizer.step()

    train(ours, build("multi", ours, **CONFIG), 4)
    train(theirs, Both(), 4)  # type: ignore[arg-type]
    assert same_tensors(ours.state_dict(), theirs.state_dict())


def test_a_schedule_reaches_the_optimizers() -> None:
    model = network()
    optimizer = build("multi", model, **CONFIG)
    schedule = WarmupPolynomial(optimizer, num_epochs=1, num_steps_per_epoch=4)
    rates = []
    for step in range(4):
        schedule.step_batch(step + 1)
        rates.append(
            [optimizer.optimizers[name].param_groups[0]["lr"] for name in ("default", "muon")]
        )
    expected = [[0.1 * left, 0.2 * left] for left in (1, 0.75, 0.5, 0.25)]
    assert rates == [pytest.approx(each) for each in expected]


def test_a_schedule_reaches_them_after_a_checkpoint_too() -> None:
    model = network()
    optimizer = build("multi", model, **CONFIG)
    losses = train(model, optimizer, 3)
    weights, state = saved_and_loaded([model.state_dict(), optimizer.state_dict()])
    losses += train(model, optimizer, 2)

    recovered = network(seed=5)
    recovered.load_state_dict(weights)
    other = build("multi", recovered, **CONFIG)
    other.load_state_dict(state)
    assert train(recovered, other, 2) == losses[3:]
    for group in other.param_groups:
        group["lr"] = 0.0
    before = {name: value.detach().clone() for name, value in recovered.named_parameters()}
    train(recovered, other, 1)
    assert same_tensors(before, dict(recovered.named_parameters()))


def test_a_parameter_that_gets_frozen_stays() -> None:
    """With a gradient of 0, momentum and weight decay would still move it."""
    model = network()
    optimizer = build("multi", model, **CONFIG)
    train(model, optimizer, 2)
    for parameter in (model[0].weight, model[4].weight):
        parameter.requires_grad_(False)
    before = [model[0].weight.clone(), model[4].weight.clone()]
    train(model, optimizer, 1)
    assert torch.equal(model[0].weight, before[0])
    assert torch.equal(model[4].weight, before[1])


def with_optimizer(name: str, **arguments: Any) -> Dict[str, Any]:
    return {**CONFIG, "optimizers": {**CONFIG["optimizers"], name: arguments}}


def test_its_optimizers_get_the_model() -> None:
    sgd = {"type": "sgd", "lr": 0.1, "weight_decay": 0.5, "weight_decay_on_norm_and_bias": False}
    optimizer = build("multi", network(), **with_optimizer("default", **sgd))
    decays = [
        (group["weight_decay"], [value.dim() for value in group["params"]])
        for group in optimizer.optimizers["default"].param_groups
    ]
    assert (0.5, [2]) in decays
    assert (0.0, [1, 1, 1]) in decays


def test_a_mistake_in_one_is_named() -> None:
    config = with_optimizer("muon", type="muon", lr=-1.0)
    with pytest.raises(ConfigurationError, match="muon cannot be made with .*-1"):
        build("multi", network(), **config)
