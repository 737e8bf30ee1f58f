import math
from typing import List, NamedTuple, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.fill import check_fill, fill_values
from allencv.data.transforms.image_transform import ImageTransform


class Grid(NamedTuple):
    """
    A grid of lines that are `kept` pixels wide and repeat every `period` pixels. It is rotated by
    `angle` degrees around the upper left corner, then starts `(top, left)` before it.
    """

    period: int
    kept: int
    top: int
    left: int
    angle: float = 0.0


def grid_holes(height: int, width: int, grid: Grid) -> torch.Tensor:
    """Return where the squares between the lines of a grid are: booleans `(height, width)`."""
    cos, sin = math.cos(math.radians(grid.angle)), math.sin(math.radians(grid.angle))
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    down = (rows * cos + columns * sin + grid.top) % grid.period
    right = (columns * cos - rows * sin + grid.left) % grid.period
    return (down >= grid.kept) & (right >= grid.kept)


@ImageTransform.register("grid_mask")
class GridMask(ImageTransform):
    """
    Hides squares in a regular grid of random size, position and angle. `1 - (1 - ratio) ** 2` of
    the image remains visible.

    Input and output are `(channels, height, width)`, `uint8` or floats.

    Chen et al. 2020, "GridMask Data Augmentation", https://arxiv.org/abs/2001.04086. The defaults
    are those of its ResNet-50 on ImageNet. There the probability increases during training, up to
    `probability` after 240 of 300 epochs; here it is constant.

    Registered as an `ImageTransform` with name "grid_mask".

    # Parameters

    d_min, d_max : `int`, optional (default = `96` and `224`)
        The distance between squares in pixels: from `d_min` to `d_max`, both included.
    ratio : `float`, optional (default = `0.6`)
        The share of that distance that stays visible, in (0, 1).
    rotation : `float`, optional (default = `360.0`)
        The grid is rotated by an angle from 0 up to this, in degrees.
    probability : `float`, optional (default = `0.8`)
        The probability of hiding anything, in [0, 1].
    fill : `Union[float, List[float]]`, optional (default = `None`)
        The value of hidden pixels, or one value per channel. `None` means ImageNet's mean pixel for
        `uint8`, and 0 for floats, as in the paper, which hides after normalising.
    """

    is_random = True

    def __init__(
        self,
        d_min: int = 96,
        d_max: int = 224,
        ratio: float = 0.6,
        rotation: float = 360.0,
        probability: float = 0.8,
        fill: Optional[Union[float, List[float]]] = None,
    ) -> None:
        if not 2 <= d_min <= d_max:
            raise ConfigurationError(
                f"grid_mask.d_min is {d_min} and d_max is {d_max}; expected 2 <= d_min <= d_max"
            )
        if not 0 < ratio < 1:
            raise ConfigurationError(f"grid_mask.ratio is {ratio}; expected a number in (0, 1)")
        if rotation < 0:
            raise ConfigurationError(f"grid_mask.rotation is {rotation}; expected at least 0")
        if not 0 <= probability <= 1:
            raise ConfigurationError(
                f"grid_mask.probability is {probability}; expected a number in [0, 1]"
            )
        check_fill("grid_mask.fill", fill)
        self.d_min, self.d_max = d_min, d_max
        self.ratio = ratio
        self.rotation = rotation
        self.probability = probability
        self.fill = fill

    def make_grid(self) -> Optional[Grid]:
        """Draw a grid, or `None` to hide nothing."""
        if torch.rand(()) >= self.probability:
            return None
        period = int(torch.randint(self.d_min, self.d_max + 1, ()))
        kept = min(max(round(period * self.ratio), 1), period - 1)
        top, left = torch.randint(period, (2,)).tolist()
        return Grid(period, kept, top, left, float(torch.rand(())) * self.rotation)

    def transform(self, image: torch.Tensor, grid: Optional[Grid]) -> torch.Tensor:
        """Hide the squares of the grid."""
        if grid is None:
            return image
        hidden = grid_holes(image.shape[1], image.shape[2], grid)
        return torch.where(hidden, fill_values("grid_mask.fill", self.fill, image), image)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return self.transform(image, self.make_grid())
