"""
Adjust the colours of each image of a batch by a factor of its own, on any device. Pixels differ
from those of torchvision's functions for one image by rounding: by 1 of 255, and rarely.
"""

from typing import Callable, Dict

import numpy as np
import torch

from allencv.data.transforms.batch_memory import on_device_of

GREY = (0.2989, 0.587, 0.114)
"""The weights of red, green and blue, as in torchvision."""
ALMOST_ONE = 1 - 1e-3
"""torchvision makes pixels of shares by multiplying with 255 plus this, and rounding down."""

Adjust = Callable[[torch.Tensor, np.ndarray], torch.Tensor]


def adjust_brightness(images: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Multiply the pixels of each image `(batch, channels, height, width)` by its factor."""
    return _pixels(images * _each(images, factors), images)


def adjust_contrast(images: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Multiply the distance of the pixels to the mean grey of their image."""
    return _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), factors)


def adjust_saturation(images: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Multiply the distance of each pixel to its grey."""
    return images if images.shape[1] == 1 else _blended(images, _grey(images), factors)


def adjust_hue(images: torch.Tensor, turns: np.ndarray) -> torch.Tensor:
    """Turn the hues of each image, by -0.5 to 0.5 of the colour circle."""
    if images.shape[1] == 1:
        return images
    is_float = images.is_floating_point()
    shares = images if is_float else images.float() * (1 / _largest(images))
    # The place on the circle, from 0 to 6: red, yellow, green, cyan, blue, magenta
    least, value = shares.aminmax(dim=1, keepdim=True)
    span = value - least
    red, green, blue = shares.split(1, dim=1)
    divisor = torch.where(span == 0, 1, span)
    place = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    place = place + 6 * _each(images, turns)
    # How far red, green and blue are below the largest: all the way at the opposite colours
    starts = torch.tensor([5, 3, 1], device=images.device).view(1, 3, 1, 1)
    distance = (place + starts).remainder(6)
    below = torch.minimum(distance, 4 - distance).clamp(0, 1)
    turned = value - span * below
    return turned if is_float else (turned * (_largest(images) + ALMOST_ONE)).to(images.dtype)


ADJUSTMENTS: Dict[str, Adjust] = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}
"""By the names of torchvision's `ColorJitter`."""


def _blended(images: torch.Tensor, others: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    shares = _each(images, factors)
    return _pixels(images * shares + others * (1 - shares), images)


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Return the brightness of each pixel: `(batch, 1, height, width)`."""
    if images.shape[1] == 1:
        return images if images.is_floating_point() else images.float()
    red, green, blue = (images[:, number : number + 1] * GREY[number] for number in range(3))
    grey = red + green + blue
    return grey if images.is_floating_point() else grey.floor_()


def _pixels(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return values in the range and type of the images."""
    return values.clamp_(0, _largest(images)).to(images.dtype)


def _largest(images: torch.Tensor) -> float:
    return 1.0 if images.is_floating_point() else float(torch.iinfo(images.dtype).max)


def _each(images: torch.Tensor, factors: np.ndarray) -> torch.Tensor:
    """Return a number for each image, on its device, to multiply with it."""
    return on_device_of(images, factors.astype(np.float32)).view(-1, 1, 1, 1)
