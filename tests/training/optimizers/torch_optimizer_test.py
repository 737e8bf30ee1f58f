import inspect
import io
from typing import Any, Dict, List

import pytest
import timm.optim
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import optimizers as allennlp_optimizers
from allennlp.training.optimizers import Optimizer

from allencv.training.optimizers import OPTIMIZERS, TorchOptimizer
from tests.conftest import same_tensors

ALLENNLPS_CLASSES = {
    "adam": allennlp_optimizers.AdamOptimizer,
    "adamw": allennlp_optimizers.AdamWOptimizer,
    "adamax": allennlp_optimizers.AdamaxOptimizer,
    "adagrad": allennlp_optimizers.AdagradOptimizer,
    "adadelta": allennlp_optimizers.AdadeltaOptimizer,
    "averaged_sgd": allennlp_optimizers.AveragedSgdOptimizer,
    "rmsprop": allennlp_optimizers.RmsPropOptimizer,
    "sgd": allennlp_optimizers.SgdOptimizer,
}


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 4 * 4, 3),
    )


def build(name: str, model: torch.nn.Module, **arguments: Any) -> Optimizer:
    return Optimizer.from_params(
        Params({"type": name, **arguments}),
        model_parameters=list(model.named_parameters()),
        model=model,
    )


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> List[float]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(16, 3, 6, 6, generator=generator)
    labels = torch.randint(3, (16,), generator=generator)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def saved_and_loaded(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def required(name: str) -> Dict[str, float]:
    """The arguments without a default."""
    return {"lr": 0.01} if "sgd" in name else {}


def test_what_timm_lists_is_registered() -> None:
    missing = set(timm.optim.list_optimizers()) - set(Optimizer.list_available())
    kinds = {name.removesuffix("legacy") for name in missing}
    assert {name for name in kinds if not name.startswith(("bnb", "fused"))} == {
        *("adahessian", "kron", "kronc", "kronw"),
        *("adamw", "nadam", "radam"),  # as *legacy only
    }
    assert {"lamb", "lion", "muon", "nadamw", "adan", "lars", "adafactor"} <= set(OPTIMIZERS)
    for name, optimizer in OPTIMIZERS.items():
        assert Optimizer.by_name(name) is optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns_and_goes_on_after_a_checkpoint(name: str) -> None:
    model = network()
    optimizer = build(name, model, **required(name))
    losses = train(model, optimizer, 3)
    weights, state = saved_and_loaded([model.state_dict(), optimizer.state_dict()])
    losses += train(model, optimizer, 2)
    assert losses[-1] < losses[0]

    recovered = network(seed=5)
    recovered.load_state_dict(weights)
    other = build(name, recovered, **required(name))
    other.load_state_dict(state)
    assert train(recovered, other, 2) == losses[3:]
    assert same_tensors(model.state_dict(), recovered.state_dict())


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - set(ALLENNLPS_CLASSES) - {"rprop"}))
def test_the_name_means_what_it_means_to_timm(name: str) -> None:
    arguments = {"lr": 0.003, "weight_decay": 0.02}
    ours, theirs = network(), network()
    train(ours, build(name, ours, **arguments), 3)
    if "muon" in name:
        arguments["momentum"] = 0.95  # the default of timm's class; of its factory 0.9
    train(theirs, timm.optim.create_optimizer_v2(theirs.parameters(), name, **arguments), 3)
    assert same_tensors(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("name", ALLENNLPS_CLASSES)
def test_allennlps_arguments_keep_their_defaults(name: str) -> None:
    ours = inspect.signature(OPTIMIZERS[name]).parameters
    for key, parameter in inspect.signature(ALLENNLPS_CLASSES[name]).parameters.items():
        assert ours[key].default == parameter.default, key
    first, second = network(), network()
    train(first, build(name, first, **required(name)), 3)
    parameters = list(second.named_parameters())
    train(second, ALLENNLPS_CLASSES[name](parameters, **required(name)), 3)
    assert same_tensors(first.state_dict(), second.state_dict())


def test_muon_takes_more_than_matrices() -> None:
    """torch's own is for two dimensions only; this is timm's."""
    model = network()
    with pytest.raises(ValueError, match="2D"):
        torch.optim.Muon(model.parameters())
    optimizer = build("muon", model, parameter_groups=[[["^4"], {"use_fallback": True}]])
    train(model, optimizer, 1)
    by_muon = {
        name for name, value in model.named_parameters() if optimizer.state[value]["use_muon"]
    }
    assert by_muon == {"0.weight"}  # neither biases and norms, nor the head


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adagrad"])
def test_fused(name: str) -> None:
    fused, plain = network(), network()
    optimizer = build(name, fused, fused=True, **required(name))
    assert [group["fused"] for group in optimizer.param_groups] == [True]
    train(fused, optimizer, 3)
    train(plain, build(name, plain, **required(name)), 3)
    for first, second in zip(fused.parameters(), plain.parameters()):
        torch.testing.assert_close(first, second)
    # AllenNLP's own class does not take it, which is why there is one of ours.
    assert "fused" not in inspect.signature(ALLENNLPS_CLASSES[name]).parameters


def test_parameter_groups() -> None:
    model = network()
    optimizer = build(
        "adamw",
        model,
        lr=0.1,
        betas=[0.8, 0.9],
        parameter_groups=[
            [["^4"], {"lr": 0.5, "betas": [0.7, 0.9]}],
            [["^1"], {"requires_grad": False}],
        ],
    )
    head, rest = optimizer.param_groups
    assert (head["lr"], list(head["betas"])) == (0.5, [0.7, 0.9])
    assert (rest["lr"], rest["betas"]) == (0.1, (0.8, 0.9))
    assert [value.shape for value in head["params"]] == [(3, 128), (3,)]
    assert [value.shape for value in rest["params"]] == [(8, 3, 3, 3)]
    assert not model[1].weight.requires_grad


def test_in_allennlps_multi() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = build(
        "multi",
        model,
        optimizers={"default": {"type": "lion", "lr": 0.0}, "head": {"type": "lamb", "lr": 0.1}},
        parameter_groups=[[["^4"], {"optimizer_name": "head"}]],
    )
    train(model, optimizer, 2)
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    assert moved == {"4.weight", "4.bias"}


def test_norms_and_biases_without_weight_decay_and_a_learning_rate_for_each_stage() -> None:
    class Staged(torch.nn.Sequential):
        def get_stages(self) -> List[List[str]]:
            return [["0", "1"], ["4"]]

    model = Staged(*network())
    optimizer = build("lamb", model, lr=0.1, weight_decay_on_norm_and_bias=False, layer_decay=0.5)
    groups = [
        (group["lr"], group["weight_decay"], [value.ndim for value in group["params"]])
        for group in optimizer.param_groups
    ]
    assert groups == [
        *((0.05, 0.0, [1, 1]), (0.05, 0.01, [4])),
        *((0.1, 0.0, [1]), (0.1, 0.01, [2])),
    ]
    train(model, optimizer, 1)


@pytest.mark.parametrize("key", [{"weight_decay_on_norm_and_bias": False}, {"layer_decay": 0.5}])
def test_the_model_is_needed_for_what_depends_on_it(key: Dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match='need the model; expected trainer.type "image"'):
        OPTIMIZERS["adamw"](list(network().named_parameters()), **key)


@pytest.mark.parametrize("name", ["lamb", "huggingface_adamw", "dense_sparse_adam", None])
def test_a_trainer_may_pass_the_model_to_any_optimizer(name: str) -> None:
    model = network()
    lazy = Lazy(Optimizer, params=Params({"type": name} if name else {}))
    optimizer = Lazy(lazy.construct, model=model).construct(
        model_parameters=list(model.named_parameters())
    )
    assert type(optimizer) is Optimizer.by_name(name or "adam")


def test_in_python() -> None:
    model = network()
    lamb = Optimizer.by_name("lamb")(list(model.named_parameters()), lr=0.02)
    assert isinstance(lamb, timm.optim.Lamb)
    assert isinstance(lamb, TorchOptimizer)
    assert 'with name "lamb"' in lamb.__doc__
    assert lamb.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lamb", {"learning_rate": 1}, "a key of Lamb is 'learning_rate'; expected one of"),
        ("rprop", {"weight_decay_on_norm_and_bias": False}, "is 'weight_decay_on_norm_and_bias'"),
        ("sgd", {}, 'key "lr" is required'),
        ("lion", {"lr": -1.0}, "lion cannot be made with .*'lr': -1.0.*: ValueError: Invalid lear"),
        (
            "lamb",
            {"parameter_groups": [[["^4"], {"learning_rate": 1}]]},
            r"a key of lamb.parameter_groups\[0\] is 'learning_rate'; expected one of",
        ),
        (
            "lamb",
            {"parameter_groups": [[["^4"], {"lr": 1}], [["weight"], {"lr": 2}]]},
            "4.weight was specified in two separate parameter groups",
        ),
    ],
)
def test_bad_input(name: str, arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(name, network(), **arguments)


def test_bad_input_in_python() -> None:
    parameters = list(network().named_parameters())
    with pytest.raises(ConfigurationError, match="argument of lamb is 'rate'; expected one of"):
        OPTIMIZERS["lamb"](parameters, rate=1.0)
    with pytest.raises(ConfigurationError, match="sgd: missing a required argument: 'lr'"):
        OPTIMIZERS["sgd"](parameters)


@pytest.mark.parametrize("value", ["0.1", [0.1]])
def test_a_value_of_the_wrong_type(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="lr is .*0.1.*; expected float"):
        build("lamb", network(), lr=value)


def test_a_learning_rate_that_jsonnet_writes_as_a_huge_integer() -> None:
    model = network()
    optimizer = build("sgd", model, lr=10**30)
    model(torch.rand(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 1e30
