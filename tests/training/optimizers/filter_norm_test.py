import pytest
import torch
from allennlp.common.checks import ConfigurationError

from tests.training.optimizers.torch_optimizer_test import build, network, saved_and_loaded, train


def mean_norm(weight: torch.Tensor) -> float:
    """The root mean square of the norms of the filters."""
    norms = [float(each.norm()) for each in weight.detach()]
    return float((sum(norm**2 for norm in norms) / len(norms)) ** 0.5)


def test_filters_are_scaled_before_the_step_and_then_moved() -> None:
    model = network()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = build("sgd", model, lr=0.0, filter_norm=2.0)
    train(model, optimizer, 1)
    for name, value in model.named_parameters():
        if value.dim() == 1:
            assert torch.equal(value, before[name])
        else:
            assert mean_norm(value) == pytest.approx(2.0, rel=1e-5)
            factor = 2.0 / mean_norm(before[name])
            torch.testing.assert_close(value.detach(), before[name] * factor)


def test_a_step_by_hand() -> None:
    model, twin = network(), network()
    train(model, build("sgd", model, lr=0.1, filter_norm=1.0), 1)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)
    images = torch.randn(16, 3, 6, 6, generator=(generator := torch.Generator().manual_seed(1)))
    labels = torch.randint(3, (16,), generator=generator)
    torch.nn.functional.cross_entropy(twin(images), labels).backward()
    for weight in (twin[0].weight, twin[4].weight):
        weight.data *= len(weight) ** 0.5 / weight.data.norm()
    other.step()
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_for_a_group_alone_and_after_a_checkpoint() -> None:
    groups = [[["^0"], {"filter_norm": 3.0}]]
    model = network()
    before = model[4].weight.detach().clone()
    optimizer = build("sgd", model, lr=0.0, parameter_groups=groups)
    train(model, optimizer, 1)
    assert mean_norm(model[0].weight) == pytest.approx(3.0, rel=1e-5)
    assert torch.equal(model[4].weight, before)

    recovered = network(seed=5)
    other = build("sgd", recovered, lr=0.0, parameter_groups=groups)
    other.load_state_dict(saved_and_loaded(optimizer.state_dict()))
    train(recovered, other, 1)
    assert mean_norm(recovered[0].weight) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("norm", [1.0, 100.0])
def test_weights_of_zero_stay(norm: float) -> None:
    model = network()
    model[0].weight.data.zero_()
    train(model, build("sgd", model, lr=0.0, filter_norm=norm), 1)
    assert (model[0].weight == 0).all()


def test_frozen_weights_stay() -> None:
    model = network()
    optimizer = build("sgd", model, lr=0.1, filter_norm=3.0)
    model[0].weight.requires_grad_(False)  # as the callback "freeze" does
    before = model[0].weight.clone()
    train(model, optimizer, 2)
    assert torch.equal(model[0].weight, before)
    assert mean_norm(model[4].weight) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize("norm", [0, -1.0, float("inf")])
def test_a_norm_that_is_none_is_refused(norm: float) -> None:
    with pytest.raises(ConfigurationError, match=f"filter_norm {norm}; expected a finite number"):
        build("sgd", network(), lr=0.1, filter_norm=norm)
