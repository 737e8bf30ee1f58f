from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms import Cutout, ImageTransform


def image_of_ones(height: int = 5, width: int = 6) -> torch.Tensor:
    return torch.ones(1, height, width, dtype=torch.uint8)


def test_by_hand() -> None:
    """A square of 3 around row 2 and column 4, and one of which the corner of the image is left."""
    cutout = ImageTransform.from_params(Params({"type": "cutout", "size": 3, "fill": 0}))
    assert isinstance(cutout, Cutout)
    result = cutout.transform(image_of_ones(), torch.tensor([[2, 4], [0, 0]]))
    expected = [
        [0, 0, 1, 1, 1, 1],
        [0, 0, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 1],
    ]
    assert result[0].tolist() == expected


def test_a_square_of_even_side_begins_half_of_it_before_its_center() -> None:
    result = Cutout(size=2, fill=0).transform(image_of_ones(), torch.tensor([[2, 4]]))
    assert (result[0] == 0).nonzero().tolist() == [[1, 3], [1, 4], [2, 3], [2, 4]]


def test_a_square_larger_than_the_image_hides_it_all() -> None:
    assert (Cutout(size=20, fill=0)(image_of_ones()) == 0).all()


def test_a_share_is_of_the_shorter_side() -> None:
    center = torch.tensor([[10, 20]])
    result = Cutout(size=0.25, fill=0).transform(image_of_ones(20, 40), center)
    assert (result == 0).sum() == 5 * 5


def test_centers_are_drawn_from_torch_and_anywhere() -> None:
    torch.manual_seed(3)
    centers = Cutout(num_holes=5000).make_centers(3, 4)
    torch.manual_seed(3)
    drawn = torch.rand(5000, 2)
    assert centers.tolist() == [[int(row * 3), int(column * 4)] for row, column in drawn.tolist()]
    assert len(centers.unique(dim=0)) == 12
    (counts,) = centers.unique(dim=0, return_counts=True)[1:]
    assert counts.min() > 5000 / 12 * 0.8


def test_the_default_hides_with_the_mean_and_leaves_the_rest() -> None:
    image = torch.randint(256, (8, 8, 3), dtype=torch.uint8).permute(2, 0, 1)
    result = Cutout().transform(image, torch.tensor([[4, 4]]))
    hidden = torch.zeros(8, 8, dtype=torch.bool)
    hidden[2:6, 2:6] = True
    assert torch.equal(result[:, ~hidden], image[:, ~hidden])
    assert result[:, 3, 3].tolist() == [124, 116, 104]
    assert (Cutout(size=20)(torch.ones(3, 8, 8)) == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_holes": 0}, "cutout.num_holes is 0; expected at least 1"),
        ({"size": 0}, "cutout.size is 0; expected a whole number of pixels, or a share in"),
        ({"size": 2.5}, "cutout.size is 2.5"),
        ({"fill": "red"}, "cutout.fill"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Cutout(**arguments)
