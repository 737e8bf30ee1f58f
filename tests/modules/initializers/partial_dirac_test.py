import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.nn import InitializerApplicator

import allencv.modules.initializers  # noqa: F401 - registers "partial_dirac"


def initialize(module: torch.nn.Module, groups: int = 1) -> torch.nn.Module:
    params = Params({"regexes": [["weight", {"type": "partial_dirac", "groups": groups}]]})
    InitializerApplicator.from_params(params)(module)
    return module


@pytest.mark.parametrize("filters", [3, 5, 8])
def test_the_first_filters_pass_on_the_channels_and_others_stay(filters: int) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, filters, 3, padding=1, bias=False)
    drawn = conv.weight.clone()
    initialize(conv)
    images = torch.randn(2, 5, 7, 6)
    passed = min(5, filters)
    torch.testing.assert_close(conv(images)[:, :passed], images[:, :passed])
    assert torch.equal(conv.weight[5:], drawn[5:])
    assert conv.weight.requires_grad


def test_other_weights_are_refused_by_name() -> None:
    with pytest.raises(
        ConfigurationError, match=r"'partial_dirac' for 0.weight, whose shape is \(2, 3\); expected"
    ):
        initialize(torch.nn.Sequential(torch.nn.Linear(3, 2)))


@pytest.mark.parametrize("groups", [2, 6])
def test_each_group_passes_on_its_channels(groups: int) -> None:
    conv = torch.nn.Conv2d(6, 12, 3, padding=1, bias=False, groups=groups)
    initialize(conv, groups)
    images = torch.randn(2, 6, 7, 6)
    passed = conv(images).unflatten(1, (groups, -1))[:, :, : 6 // groups]
    torch.testing.assert_close(passed.flatten(1, 2), images)


@pytest.mark.parametrize("groups", [0, 4])
def test_groups_that_do_not_fit_are_refused(groups: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"groups .*{groups}.*expected"):
        initialize(torch.nn.Conv2d(3, 6, 3), groups)
