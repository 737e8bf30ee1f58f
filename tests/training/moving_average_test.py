import copy
import io

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.moving_average import (
    ExponentialMovingAverage as AllenNLPExponentialMovingAverage,
)
from allennlp.training.moving_average import MovingAverage

from allencv.training.moving_average import ExponentialMovingAverage


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2)
    )


def parameters(module):
    return [[name, parameter] for name, parameter in module.named_parameters()]


def train(module, average, steps):
    """Changes the parameters as an optimizer does: in place, differently at each step."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.apply(step + 1)


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer)


def averages(module, average):
    average.assign_average_value()
    values = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    average.restore()
    return values


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def recovered(average_class):
    """A run that was stopped after ten steps, recovered from its checkpoint."""
    module = network()
    average = average_class(parameters(module), decay=0.9)
    train(module, average, range(10))
    model_state, average_state = through_a_file([module.state_dict(), average.state_dict()])

    module = network()
    average = average_class(parameters(module), decay=0.9)
    module.load_state_dict(model_state)
    average.load_state_dict(average_state)
    return module, average


def test_the_registered_name_takes_allennlps_arguments():
    params = Params({"type": "exponential", "decay": 0.5, "numerator": 2.0, "denominator": 20.0})
    average = MovingAverage.from_params(params, parameters=parameters(network()))
    assert isinstance(average, ExponentialMovingAverage)


def test_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    average = ExponentialMovingAverage([("weight", parameter)], decay=0.5)
    parameter.data.fill_(3.0)
    average.apply()  # 0.5 * 1 + 0.5 * 3
    assert average.state_dict()["shadows"]["weight"].item() == 2.0
    average.apply(num_updates=0)  # decay is (1 + 0) / (10 + 0): 0.1 * 2 + 0.9 * 3
    assert average.state_dict()["shadows"]["weight"].item() == pytest.approx(2.9)
    average.assign_average_value()
    assert parameter.item() == pytest.approx(2.9)
    average.restore()
    assert parameter.item() == 3.0
    assert parameter.requires_grad


def test_averages_are_allennlps():
    ours, theirs = network(), network()
    our_average = ExponentialMovingAverage(parameters(ours), decay=0.9)
    their_average = AllenNLPExponentialMovingAverage(parameters(theirs), decay=0.9)
    train(ours, our_average, range(30))
    train(theirs, their_average, range(30))
    expected = averages(theirs, their_average)
    for name, value in averages(ours, our_average).items():
        torch.testing.assert_close(value, expected[name])


def test_allennlps_own_class_still_fails_to_recover():
    # Delete ours when this one gives the model its averages after a recovery.
    module, average = recovered(AllenNLPExponentialMovingAverage)
    train(module, average, range(10, 20))
    assert_same(averages(module, average), dict(module.named_parameters()))


def test_recovered_equals_uninterrupted_to_the_bit():
    straight = network()
    straight_average = ExponentialMovingAverage(parameters(straight), decay=0.9)
    train(straight, straight_average, range(20))
    module, average = recovered(ExponentialMovingAverage)
    train(module, average, range(10, 20))
    assert_same(averages(module, average), averages(straight, straight_average))


def test_state_holds_the_averages_alone_and_loading_keeps_the_own_tensors():
    module = network()
    average = ExponentialMovingAverage(parameters(module))
    state = copy.deepcopy(average.state_dict())
    assert state.keys() == {"shadows"}
    assert state["shadows"].keys() == dict(module.named_parameters()).keys()

    own = average.state_dict()["shadows"]["0.weight"]
    average.load_state_dict(state)
    state["shadows"]["0.weight"].zero_()
    assert average.state_dict()["shadows"]["0.weight"] is own
    assert own.abs().sum() > 0


def test_loads_a_state_of_allennlps_class():
    module = network()
    theirs = AllenNLPExponentialMovingAverage(parameters(module))
    train(module, theirs, range(5))
    state = through_a_file(theirs.state_dict())
    ours = ExponentialMovingAverage(parameters(module))
    ours.load_state_dict(state)
    assert_same(averages(module, ours), averages(module, theirs))
    train(module, ours, range(5, 6))
    assert not torch.equal(ours.state_dict()["shadows"]["0.weight"], state["shadows"]["0.weight"])


def test_a_state_of_other_parameters_is_refused():
    average = ExponentialMovingAverage(parameters(network()))
    shadows = dict(average.state_dict()["shadows"])
    shadows["other"] = shadows.pop("0.bias")
    message = r"lacks \['0.bias'\] and has besides \['other'\]"
    with pytest.raises(ConfigurationError, match=message):
        average.load_state_dict({"shadows": shadows})
