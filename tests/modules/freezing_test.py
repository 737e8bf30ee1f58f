import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.freezing import freeze, stop_frozen_batch_norm


def network():
    return torch.nn.ModuleDict({"block1": torch.nn.Linear(2, 2), "block11": torch.nn.Linear(2, 2)})


def trained(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("requires_grad", "layers", "expected"),
    [
        (True, None, {"block1.weight", "block1.bias", "block11.weight", "block11.bias"}),
        (False, None, set()),
        (True, [], set()),
        (False, [], set()),
        (True, ["block1"], {"block1.weight", "block1.bias"}),
        (True, ["block1", "block11.bias"], {"block1.weight", "block1.bias", "block11.bias"}),
    ],
)
def test_what_is_trained(requires_grad, layers, expected):
    module = network()
    freeze(module, requires_grad, layers)
    assert trained(module) == expected


@pytest.mark.parametrize("train_bn", [True, False])
def test_batch_norm_need_not_be_trained(train_bn):
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    freeze(module, True, None, train_bn)
    norm = {"1.weight", "1.bias"} if train_bn else set()
    assert trained(module) == {"0.weight", "0.bias"} | norm


def test_wrong_layers_are_refused():
    with pytest.raises(
        ConfigurationError,
        match="a name in trainable_layers is 'block2'; expected one of block1, block11",
    ):
        freeze(network(), True, ["block1", "block2"])
    with pytest.raises(ConfigurationError, match="but requires_grad is false"):
        freeze(network(), False, ["block1"])


def test_batch_norm_stops_where_its_weight_is_frozen():
    trained, frozen = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2).requires_grad_(False)
    without_weight = torch.nn.BatchNorm1d(2, affine=False)
    stop_frozen_batch_norm(torch.nn.Sequential(trained, frozen, without_weight))
    assert (trained.training, frozen.training, without_weight.training) == (True, False, True)
