from typing import List, Optional, Union

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import hide
from allencv.data.transforms.fill import check_fill, fill_values
from allencv.data.transforms.image_transform import ImageTransform, OnBatch


@ImageTransform.register("cutout")
class Cutout(ImageTransform):
    """
    Hides squares of the image. Their centres are anywhere in it, so a square may extend over the
    edge.

    Input and output are `(channels, height, width)`, `uint8` or floats.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout",
    https://arxiv.org/abs/1708.04552

    Registered as an `ImageTransform` with name "cutout".

    # Parameters

    num_holes : `int`, optional (default = `1`)
        The number of squares to hide. They may overlap.
    size : `Union[int, float]`, optional (default = `0.5`)
        The side of a square: in pixels, or, below 1, as a share of the image's shorter side. The
        paper uses 16 of 32 pixels for CIFAR-10 and 8 for CIFAR-100.
    fill : `Union[float, List[float]]`, optional (default = `None`)
        The value of hidden pixels, or one value per channel. `None` means ImageNet's mean pixel for
        `uint8`, and 0 for floats, as in the paper, which hides after normalising.
    """

    is_random = True

    def __init__(
        self,
        num_holes: int = 1,
        size: Union[int, float] = 0.5,
        fill: Optional[Union[float, List[float]]] = None,
    ) -> None:
        if num_holes < 1:
            raise ConfigurationError(f"cutout.num_holes is {num_holes}; expected at least 1")
        if size <= 0 or (size >= 1 and size != int(size)):
            raise ConfigurationError(
                f"cutout.size is {size}; expected a whole number of pixels, or a share in (0, 1)"
            )
        check_fill("cutout.fill", fill)
        self.num_holes = num_holes
        self.size = size
        self.fill = fill

    def make_centers(self, height: int, width: int) -> torch.Tensor:
        """Draw the row and column of the centre of each square: `(num_holes, 2)`."""
        return (torch.rand(self.num_holes, 2) * torch.tensor([height, width])).long()

    def transform(self, image: torch.Tensor, centers: torch.Tensor) -> torch.Tensor:
        """Hide a square around each centre."""
        side = self._side(*image.shape[1:])
        values = fill_values("cutout.fill", self.fill, image)
        result = image.clone()
        for row, column in centers.tolist():
            top, left = row - side // 2, column - side // 2
            result[:, max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)] = values
        return result

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        height, width = images.shape[-2:]
        side = self._side(height, width)
        values = fill_values("cutout.fill", self.fill, images[0])
        # In single precision, as `make_centers`. Shape: (batch, holes, 2)
        shares = np.stack([draws.shares() for _ in range(2 * self.num_holes)], axis=-1)
        drawn = shares.reshape(-1, self.num_holes, 2) * np.array([height, width], np.float32)
        corners = drawn.astype(np.int64) - side // 2
        boxes = np.concatenate([corners, corners + side], axis=-1)
        return lambda images: hide(images, boxes, values)

    def _side(self, height: int, width: int) -> int:
        """Return the side of a square in pixels."""
        return int(self.size) if self.size >= 1 else max(1, round(self.size * min(height, width)))

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return self.transform(image, self.make_centers(*image.shape[1:]))
