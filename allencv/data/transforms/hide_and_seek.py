from typing import List, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.fill import check_fill, fill_values
from allencv.data.transforms.image_transform import ImageTransform


@ImageTransform.register("hide_and_seek")
class HideAndSeek(ImageTransform):
    """
    Divides the image into a grid of square patches and hides each with some probability. The
    network then learns to recognise objects by any of their parts. Patches at the right and bottom
    edge may be smaller.

    Input and output are `(channels, height, width)`, `uint8` or floats.

    Singh and Lee 2017, "Hide-and-Seek: Forcing a Network to be Meticulous for Weakly-supervised
    Object and Action Localization", https://arxiv.org/abs/1704.04232

    Registered as an `ImageTransform` with name "hide_and_seek".

    # Parameters

    grid_sizes : `List[int]`, optional (default = `[0, 16, 32, 44, 56]`)
        The side of a patch in pixels: one of these for each image; 0 hides nothing. The default is
        the authors', for images of 224 pixels.
    hide_probability : `float`, optional (default = `0.5`)
        The probability of hiding a patch, in [0, 1].
    fill : `Union[float, List[float]]`, optional (default = `None`)
        The value of hidden pixels, or one value per channel. `None` means ImageNet's mean pixel for
        `uint8`, and 0 for floats. The paper uses the mean, so that the average output of the first
        layer stays the same.
    """

    is_random = True

    def __init__(
        self,
        grid_sizes: Optional[List[int]] = None,
        hide_probability: float = 0.5,
        fill: Optional[Union[float, List[float]]] = None,
    ) -> None:
        grid_sizes = [0, 16, 32, 44, 56] if grid_sizes is None else grid_sizes
        if not grid_sizes or min(grid_sizes) < 0:
            raise ConfigurationError(
                f"hide_and_seek.grid_sizes is {grid_sizes}; expected numbers of pixels, 0 or more"
            )
        if not 0 <= hide_probability <= 1:
            raise ConfigurationError(
                f"hide_and_seek.hide_probability is {hide_probability}; expected a number in [0, 1]"
            )
        check_fill("hide_and_seek.fill", fill)
        self.grid_sizes = grid_sizes
        self.hide_probability = hide_probability
        self.fill = fill

    def make_patches(self, height: int, width: int) -> Optional[torch.Tensor]:
        """Draw the pixels to hide: booleans `(height, width)`, or `None` to hide none."""
        size = self.grid_sizes[int(torch.randint(len(self.grid_sizes), ()))]
        if size == 0:
            return None
        # Shape: (rows, columns) of patches
        hidden = torch.rand(-(-height // size), -(-width // size)) < self.hide_probability
        return hidden.repeat_interleave(size, 0).repeat_interleave(size, 1)[:height, :width]

    def transform(self, image: torch.Tensor, hidden: Optional[torch.Tensor]) -> torch.Tensor:
        """Hide the image `(channels, height, width)` where `hidden` `(height, width)` is true."""
        if hidden is None:
            return image
        return torch.where(hidden, fill_values("hide_and_seek.fill", self.fill, image), image)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return self.transform(image, self.make_patches(*image.shape[1:]))
