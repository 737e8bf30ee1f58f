import logging
import re
from collections import defaultdict
from typing import Any, Dict, List, Tuple

import pytest
import timm
import torch
from allennlp.common.checks import ConfigurationError
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

from allencv.training.parameter_groups import split_parameter_groups, without_weight_decay


class Classifier(torch.nn.Module):
    """A network of timm's inside of another, with the stages that timm gives it."""

    def __init__(self, name: str = "test_vit", trainable: str = "") -> None:
        super().__init__()
        self.encoder = timm.create_model(name, num_classes=3)
        self.encoder.requires_grad_(False)
        for key, value in self.encoder.named_parameters():
            value.requires_grad_(re.search(trainable, key) is not None)

    def get_stages(self) -> List[List[str]]:
        stages: Dict[int, List[str]] = defaultdict(list)
        matcher = self.encoder.group_matcher(coarse=False)
        for name, layer in group_parameters(self.encoder, matcher, reverse=True).items():
            stages[layer].append(f"encoder.{name}")
        return [stages[layer] for layer in sorted(stages)]

    def groups(self) -> List[Dict[str, Any]]:
        return [{"params": [value for value in self.parameters() if value.requires_grad]}]


def settings(groups: List[Dict[str, Any]], *keys: str) -> Dict[int, Tuple[Any, ...]]:
    """What each parameter gets for some keys of its group."""
    found = {}
    for group in groups:
        for value in group["params"]:
            assert id(value) not in found
            found[id(value)] = tuple(group[key] for key in keys)
    return found


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
@pytest.mark.parametrize("trainable", ["", "head|fc|classifier|norm"])
def test_what_is_not_decayed_is_what_timm_does_not_decay(name: str, trainable: str) -> None:
    model = Classifier(name, trainable)
    groups = [{**model.groups()[0], "weight_decay": 0.05}]
    ours = split_parameter_groups(groups, model, 0.1, weight_decay_on_norm_and_bias=False)
    patterns = getattr(model.encoder, "no_weight_decay", set)()
    theirs = param_groups_weight_decay(model.encoder, 0.05, no_weight_decay_list=patterns)
    assert settings(ours, "weight_decay") == settings(theirs, "weight_decay")
    assert len(ours) == 2
    assert all("lr" not in group for group in ours)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_layer_decay_is_timms(name: str) -> None:
    model = Classifier(name)
    groups = [{**model.groups()[0], "weight_decay": 0.05}]
    ours = split_parameter_groups(groups, model, 1.0, False, layer_decay=0.7)
    patterns = getattr(model.encoder, "no_weight_decay", set)()
    theirs = param_groups_layer_decay(
        model.encoder, 0.05, no_weight_decay_list=patterns, layer_decay=0.7
    )
    expected = settings(theirs, "lr_scale", "weight_decay")
    found = settings(ours, "lr", "weight_decay")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
    rates = [group["lr"] for group in ours]
    assert rates == sorted(rates)
    assert rates[-1] == 1.0  # the head
    assert rates[0] == pytest.approx(0.7 ** (len(model.get_stages()) - 1))


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 2, 3)
        self.stem2 = torch.nn.Conv2d(2, 2, 3)
        self.scale = torch.nn.Parameter(torch.ones(2, 2))
        self.head = torch.nn.Linear(2, 2)

    def get_stages(self) -> List[List[str]]:
        return [["stem"], ["stem2", "scale"], ["head"]]

    def no_weight_decay(self) -> List[str]:
        return ["sca*"]


def test_without_weight_decay() -> None:
    model = torch.nn.Sequential(Small(), torch.nn.BatchNorm1d(2), Small())
    assert without_weight_decay(model) == {
        *("0.stem.bias", "0.stem2.bias", "0.head.bias", "0.scale"),
        *("1.weight", "1.bias"),
        *("2.stem.bias", "2.stem2.bias", "2.head.bias", "2.scale"),
    }


def test_each_group_is_split_by_the_same_rules() -> None:
    """`stem` is no prefix of `stem2`; a group's own values are what is scaled, or set to 0."""
    model = Small()
    groups = [
        {"params": [model.head.weight, model.stem.weight], "lr": 4.0, "weight_decay": 0.3},
        {"params": [model.stem2.weight, model.stem2.bias, model.scale], "momentum": 0.5},
    ]
    split = split_parameter_groups(groups, model, 8.0, False, layer_decay=0.5)
    assert [
        ([id(value) for value in group["params"]], group["lr"], group.get("weight_decay"))
        for group in split
    ] == [
        ([id(model.stem.weight)], 1.0, 0.3),
        ([id(model.head.weight)], 4.0, 0.3),
        ([id(model.stem2.bias), id(model.scale)], 4.0, 0.0),
        ([id(model.stem2.weight)], 4.0, None),
    ]
    assert [group.get("momentum") for group in split] == [None, None, 0.5, 0.5]
    assert len(groups[0]["params"]) == 2  # what was handed in stays as it was


def test_the_log_tells_the_groups(caplog: pytest.LogCaptureFixture) -> None:
    model = Small()
    groups = [{"params": list(model.parameters())}]
    with caplog.at_level(logging.INFO, "allencv"):
        split_parameter_groups(groups, model, 0.1, False, layer_decay=0.5)
    assert caplog.messages == [
        "Parameter group 1: 1 parameter, stage 1 of 3, learning rate 0.025, no weight decay",
        "Parameter group 2: 1 parameter, stage 1 of 3, learning rate 0.025",
        "Parameter group 3: 2 parameters, stage 2 of 3, learning rate 0.05, no weight decay",
        "Parameter group 4: 1 parameter, stage 2 of 3, learning rate 0.05",
        "Parameter group 5: 1 parameter, stage 3 of 3, learning rate 0.1, no weight decay",
        "Parameter group 6: 1 parameter, stage 3 of 3, learning rate 0.1",
        "6 parameter groups",
    ]


@pytest.mark.parametrize("layer_decay", [0.0, -0.5, 1.5])
def test_a_decay_that_is_none(layer_decay: float) -> None:
    model = Small()
    groups = [{"params": list(model.parameters())}]
    with pytest.raises(ConfigurationError, match=f"layer_decay is {layer_decay}; expected"):
        split_parameter_groups(groups, model, 0.1, layer_decay=layer_decay)


def test_a_model_without_stages_or_with_too_few() -> None:
    linear = torch.nn.Linear(2, 2)
    groups = [{"params": list(linear.parameters())}]
    with pytest.raises(ConfigurationError, match=r"Linear has no get_stages\(\)"):
        split_parameter_groups(groups, linear, 0.1, layer_decay=0.5)
    whole = torch.nn.ModuleDict({"small": Small()})
    whole.get_stages = whole["small"].get_stages
    groups = [{"params": list(whole.parameters())}]
    with pytest.raises(ConfigurationError, match=r"get_stages\(\) lacks small.scale and has"):
        split_parameter_groups(groups, whole, 0.1, layer_decay=0.5)


def test_there_must_be_a_learning_rate_to_scale() -> None:
    model = Small()
    groups = [{"params": list(model.parameters())}]
    with pytest.raises(ConfigurationError, match=r"expected a number for trainer.optimizer.lr"):
        split_parameter_groups(groups, model, None, layer_decay=0.5)


def test_the_parameters_of_another_model() -> None:
    groups = [{"params": list(Small().parameters())}]
    with pytest.raises(ConfigurationError, match=r"shape \(2, 2\) is not in Small"):
        split_parameter_groups(groups, Small(), 0.1, False)
