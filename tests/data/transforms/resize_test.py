import inspect

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms import ImageTransform, Resize


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ({"size": 10}, (3, 10, 20)),
        ({"size": [10]}, (3, 10, 20)),
        ({"size": [10, 12]}, (3, 10, 12)),
        ({"height": 10, "width": 12}, (3, 10, 12)),
        ({"max_size": 10}, (3, 5, 10)),
        ({"size": 10, "max_size": 12, "interpolation": "bicubic"}, (3, 6, 12)),
    ],
)
def test_sizes(params, shape) -> None:
    resize = ImageTransform.from_params(Params({"type": "resize", **params}))
    assert resize(torch.zeros(3, 20, 40, dtype=torch.uint8)).shape == shape


def test_height_and_width_are_torchvisions_size() -> None:
    image = torch.randint(256, (20, 40, 3), dtype=torch.uint8).permute(2, 0, 1)
    expected = v2.Resize([10, 12])(image)
    assert torch.equal(Resize(height=10, width=12)(image), expected)
    assert torch.equal(Resize([10, 12])(image), expected)


def test_the_defaults_are_torchvisions() -> None:
    ours = inspect.signature(Resize).parameters
    theirs = inspect.signature(v2.Resize).parameters
    assert list(ours) == [*theirs, "height", "width"]
    for name in ("interpolation", "max_size", "antialias"):
        assert ours[name].default == theirs[name].default


@pytest.mark.parametrize(
    "params", [{}, {"height": 10}, {"width": 10}, {"size": 10, "height": 10, "width": 10}]
)
def test_needs_a_size_or_both_sides(params) -> None:
    with pytest.raises(ConfigurationError, match="expected size, or height and width"):
        ImageTransform.from_params(Params({"type": "resize", **params}))


@pytest.mark.parametrize("size", ["64", "big", [1, 2, 3], {"height": 3}, 1.5])
def test_a_wrong_size(size) -> None:
    with pytest.raises(ConfigurationError, match=r"resize.*size"):
        ImageTransform.from_params(Params({"type": "resize", "size": size}))
