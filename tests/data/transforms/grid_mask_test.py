from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms import GridMask, ImageTransform
from allencv.data.transforms.grid_mask import Grid, grid_holes


def test_by_hand() -> None:
    """Holes of 2 by 2 every 5 pixels; the grid begins 1 row above and 2 columns left of us."""
    grid_mask = ImageTransform.from_params(Params({"type": "grid_mask", "fill": 0}))
    assert isinstance(grid_mask, GridMask)
    image = torch.ones(1, 6, 9, dtype=torch.uint8)
    result = grid_mask.transform(image, Grid(period=5, kept=3, top=1, left=2))
    expected = [
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 0, 1, 1, 1, 0, 0, 1],
        [1, 0, 0, 1, 1, 1, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1],
    ]
    assert result[0].tolist() == expected


def test_a_quarter_turn() -> None:
    """Rows of the turned grid are columns of ours, and its columns are our rows upwards."""
    straight = grid_holes(20, 20, Grid(7, 3, 0, 0))
    turned = grid_holes(20, 20, Grid(7, 3, 0, 0, angle=90.0))
    for row, column in [(0, 0), (1, 4), (3, 5), (10, 12), (13, 19)]:
        assert turned[row, column] == straight[column, -row % 7]


def test_what_is_left_is_the_papers_keep_ratio() -> None:
    for angle in (0.0, 30.0):
        hidden = grid_holes(500, 500, Grid(20, 12, 3, 4, angle)).float().mean().item()
        assert hidden == pytest.approx((1 - 0.6) ** 2, abs=0.005)


def test_the_grid_is_drawn_within_its_bounds() -> None:
    grid_mask = GridMask(d_min=4, d_max=6, ratio=0.5, rotation=45.0, probability=1.0)
    grids = [grid_mask.make_grid() for _ in range(300)]
    assert {(grid.period, grid.kept) for grid in grids if grid} == {(4, 2), (5, 2), (6, 3)}
    assert {grid.top for grid in grids if grid and grid.period == 4} == {0, 1, 2, 3}
    assert {grid.left for grid in grids if grid and grid.period == 6} == {0, 1, 2, 3, 4, 5}
    angles = [grid.angle for grid in grids if grid]
    assert 0 <= min(angles) < 5
    assert 40 < max(angles) < 45


def test_a_line_and_a_hole_are_a_pixel_wide_at_least() -> None:
    for ratio in (0.01, 0.99):
        grid = GridMask(2, 2, ratio, probability=1.0).make_grid()
        assert grid is not None
        assert grid.kept == 1


def test_the_probability() -> None:
    image = torch.rand(3, 20, 20)
    never = GridMask(d_min=4, d_max=8, probability=0.0)
    assert all(never(image) is image for _ in range(20))
    sometimes = GridMask(d_min=4, d_max=8, probability=0.3)
    count = sum(sometimes(image) is not image for _ in range(1000))
    assert count == pytest.approx(300, abs=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_min": 1}, "grid_mask.d_min is 1 and d_max is 224; expected 2 <= d_min <= d_max"),
        ({"d_max": 50}, "grid_mask.d_min is 96 and d_max is 50"),
        ({"ratio": 1.0}, "grid_mask.ratio is 1.0; expected a number in"),
        ({"rotation": -1.0}, "grid_mask.rotation is -1.0; expected at least 0"),
        ({"probability": 2.0}, "grid_mask.probability is 2.0; expected a number in"),
        ({"fill": "red"}, "grid_mask.fill"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        GridMask(**arguments)
