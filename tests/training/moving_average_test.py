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
from timm.utils import ModelEmaV3

from allencv.training.moving_average import ExponentialMovingAverage


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2)
    )


def parameters(module):
    return [[name, parameter] for name, parameter in module.named_parameters()]


def with_buffers(module):
    """As the trainer would pass them, if it averaged the statistics of batch norm too."""
    return parameters(module) + [
        [name, buffer] for name, buffer in module.named_buffers() if buffer.is_floating_point()
    ]


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


def recovered(average_class, **arguments):
    """A run that was stopped after ten steps, recovered from its checkpoint."""
    module = network()
    average = average_class(parameters(module), decay=0.9, **arguments)
    train(module, average, range(10))
    model_state, average_state = through_a_file([module.state_dict(), average.state_dict()])

    module = network()
    average = average_class(parameters(module), decay=0.9, **arguments)
    module.load_state_dict(model_state)
    average.load_state_dict(average_state)
    return module, average


def test_the_registered_name_takes_allennlps_arguments():
    params = Params({"type": "exponential", "decay": 0.5, "numerator": 2.0, "denominator": 20.0})
    average = MovingAverage.from_params(params, parameters=parameters(network()))
    assert isinstance(average, ExponentialMovingAverage)
    params = Params({"type": "exponential", "power": 0.75, "start_step": 3})
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


def test_copies_before_the_first_step_and_warms_up_from_there():
    parameter = torch.nn.Parameter(torch.tensor([0.0]))
    average = ExponentialMovingAverage(
        [("weight", parameter)], decay=0.6, numerator=0, denominator=1, power=2, start_step=3
    )
    values = []
    for step in range(1, 7):
        parameter.data.fill_(float(step))
        average.apply(step)
        values.append(average.state_dict()["shadows"]["weight"].item())
    # From step 3 on the decay is 1 - (1 / (1 + updates)) ** 2, at most 0.6: 0, 0.6, 0.6, 0.6.
    expected = [1, 2, 3, 3.4, 0.6 * 3.4 + 0.4 * 5, 0.6 * (0.6 * 3.4 + 0.4 * 5) + 0.4 * 6]
    assert values == pytest.approx(expected)


def test_without_warm_up():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    average = ExponentialMovingAverage(
        [("weight", parameter)], decay=0.9, numerator=1, denominator=1
    )
    parameter.data.fill_(2.0)
    average.apply(1)
    assert average.state_dict()["shadows"]["weight"].item() == pytest.approx(1.1)


@pytest.mark.parametrize(("gamma", "power"), [(1.0, 2 / 3), (1.0, 1.0), (25.0, 0.75)])
@pytest.mark.parametrize("update_after_step", [0, 7])
def test_warm_up_and_buffers_as_timm(gamma, power, update_after_step):
    module = network()
    theirs = ModelEmaV3(
        module,
        decay=0.9,
        use_warmup=True,
        warmup_gamma=gamma,
        warmup_power=power,
        update_after_step=update_after_step,
    )
    ours = ExponentialMovingAverage(
        with_buffers(module),
        decay=0.9,
        numerator=0,
        denominator=gamma,
        power=power,
        start_step=update_after_step + 1,
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 30):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        module(torch.randn(8, 3, generator=generator))  # changes the statistics of batch norm
        ours.apply(step)
        theirs.update(module, step)
    expected = theirs.module.state_dict()
    current = copy.deepcopy(module.state_dict())
    assert not torch.equal(expected["1.running_mean"], current["1.running_mean"])

    ours.assign_average_value()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    ours.restore()
    assert_same(module.state_dict(), current)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, r"moving_average.decay is 1.0; expected a number in \[0, 1\)"),
        ({"numerator": 11}, "numerator is 11; expected at least 0 and at most .* 10.0"),
        ({"numerator": 0, "denominator": 0}, "the denominator, 0, which is more than 0"),
        ({"power": 0}, "moving_average.power is 0; expected more than 0"),
        ({"start_step": -1}, "moving_average.start_step is -1; expected at least 0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        ExponentialMovingAverage(parameters(network()), **arguments)


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


@pytest.mark.parametrize("start_step", [0, 5, 15])
def test_recovered_equals_uninterrupted_to_the_bit(start_step):
    straight = network()
    straight_average = ExponentialMovingAverage(
        parameters(straight), decay=0.9, start_step=start_step
    )
    train(straight, straight_average, range(20))
    module, average = recovered(ExponentialMovingAverage, start_step=start_step)
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
    message = r"lacks \['0.bias'\] and also has \['other'\]"
    with pytest.raises(ConfigurationError, match=message):
        average.load_state_dict({"shadows": shadows})
