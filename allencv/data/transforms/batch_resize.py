"""Resize a different part of each image of a batch, on any device."""

from typing import Callable, Dict, Tuple

import numpy as np
import torch

from allencv.data.transforms.batch_memory import on_device_of

CUBIC = -0.5
"""The parameter of the cubic filter that torch and pillow use with antialiasing."""


def _linear(distance: torch.Tensor) -> torch.Tensor:
    return (1 - distance).clamp_(min=0)


def _cubic(distance: torch.Tensor) -> torch.Tensor:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * CUBIC
    return torch.where(distance < 1, near, far) * (distance < 2)


FILTERS: Dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bilinear": _linear,
    "bicubic": _cubic,
}
"""The weight of a pixel at a distance, for each interpolation that `resized_parts` knows."""


def resized_parts(
    images: torch.Tensor, boxes: np.ndarray, size: Tuple[int, int], interpolation: str
) -> torch.Tensor:
    """
    Resize a part of each image, with antialiasing, to one size: what torchvision's `resized_crop`
    gives image by image, up to rounding: 1 of 255 for some pixels, rarely 2. Each direction is a
    product with a matrix of weights.

    # Parameters

    images : `torch.Tensor`
        `(batch, channels, height, width)`
    boxes : `np.ndarray`
        `(batch, 4)`: top, left, height and width of each part.
    size : `Tuple[int, int]`
        Height and width of the result.
    interpolation : `str`
        A key of `FILTERS`.

    # Returns

    `torch.Tensor`
        `(batch, channels, *size)`, in the type of the images.
    """
    # Shape: (batch, 2); 0 is of rows, and 1 of columns
    starts, lengths = on_device_of(images, boxes.astype(np.float32)).chunk(2, dim=1)
    # Shape of each: (batch, 1, new pixels, pixels)
    rows, columns = (
        _weights(start, length, pixels, new, FILTERS[interpolation]).unsqueeze(1)
        for start, length, pixels, new in zip(
            starts.unbind(1), lengths.unbind(1), images.shape[2:], size
        )
    )
    # Shape: (batch, channels, height, new width)
    narrow = _rounded(images.float() @ columns.transpose(2, 3), images.dtype)
    # Shape: (batch, channels, new height, new width)
    resized = _rounded(rows @ narrow, images.dtype)
    return resized.to(images.dtype)


def _weights(
    starts: torch.Tensor,
    lengths: torch.Tensor,
    pixels: int,
    new_pixels: int,
    weight_at: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return the weight of each pixel of a side in each new one: `(batch, new_pixels, pixels)`."""
    places = torch.arange(pixels, device=starts.device) + 0.5
    new_places = torch.arange(new_pixels, device=starts.device) + 0.5
    scales = lengths / new_pixels
    # Shape: (batch, new_pixels, 1)
    centers = (starts.unsqueeze(1) + scales.unsqueeze(1) * new_places).unsqueeze(2)
    # Shape: (batch, 1, 1)
    starts, stops, widths = (
        each.view(-1, 1, 1) for each in (starts, starts + lengths, scales.clamp(min=1))
    )
    weights = weight_at((places - centers).abs() / widths)
    weights = weights * ((places > starts) & (places < stops))
    return weights / weights.sum(2, keepdim=True)


def _rounded(pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Round pixels to the values of a type, as torch does after each direction on a CPU."""
    if dtype.is_floating_point:
        return pixels
    limits = torch.iinfo(dtype)
    return (pixels + 0.5).floor_().clamp_(limits.min, limits.max)
