from typing import Any

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.fill import check_fill, fill_values


@pytest.mark.parametrize(
    ("fill", "channels", "expected"),
    [(None, 3, [124, 116, 104]), (None, 1, [117]), (7, 3, [7]), ([1, 2, 3], 3, [1, 2, 3])],
)
def test_of_uint8(fill: Any, channels: int, expected: "list[int]") -> None:
    values = fill_values("a.fill", fill, torch.zeros(channels, 4, 5, dtype=torch.uint8))
    assert torch.equal(values, torch.tensor(expected, dtype=torch.uint8).view(-1, 1, 1))


def test_of_floats() -> None:
    image = torch.zeros(3, 4, 5)
    assert torch.equal(fill_values("a.fill", None, image), torch.zeros(1, 1, 1))
    assert torch.equal(fill_values("a.fill", -0.5, image), torch.full((1, 1, 1), -0.5))


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        ([1, 2], "a.fill has 2 numbers, but the image has 3 channels"),
        (256, "a.fill is 256; expected 0 to 255 for an image of uint8"),
        ([0, 0, -1], "expected 0 to 255"),
    ],
)
def test_what_does_not_fit_the_image(fill: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fill_values("a.fill", fill, torch.zeros(3, 4, 5, dtype=torch.uint8))


@pytest.mark.parametrize("fill", ["red", [], ["red"], [None]])
def test_no_number(fill: Any) -> None:
    with pytest.raises(ConfigurationError, match="a.fill is .*; expected a number, or one per"):
        check_fill("a.fill", fill)
