"""Random boxes for a batch of images, as torchvision draws them for each image."""

from typing import Any, Callable, Tuple

import numpy as np
import torch

from allencv.data.transforms.batch_draws import BatchDraws

ATTEMPTS = 10
"""How often torchvision's transforms draw a size until one fits."""

Fits = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw_boxes(
    draws: BatchDraws,
    which: np.ndarray,
    size: Tuple[int, int],
    transform: Any,
    fits: Fits,
    ratio_is_of_height: bool = False,
) -> np.ndarray:
    """
    Draw a box of random area, shape and place in each image.

    # Parameters

    draws : `BatchDraws`
    which : `np.ndarray`
        The numbers of the images to draw for, each once.
    size : `Tuple[int, int]`
        Height and width of the images.
    transform : `Any`
        torchvision's transform, with `scale` and `_log_ratio`.
    fits : `Callable[[np.ndarray, np.ndarray], np.ndarray]`
        Returns for heights and widths whether torchvision takes them. It draws again for others.
    ratio_is_of_height : `bool`, optional (default = `False`)
        Whether the ratio is of height to width. By default it is of width to height.

    # Returns

    `np.ndarray`
        `(images of which, 4)`: top, left, height and width. -1 if no size fits.
    """
    height, width = size
    least, most = transform.scale
    low, high = map(float, transform._log_ratio)
    boxes = np.full((len(which), 4), -1)
    todo = np.arange(len(which))
    for _ in range(ATTEMPTS):
        if len(todo) == 0:
            break
        images = which[todo]
        areas = height * width * draws.uniform(least, most, images).astype(np.float64)
        shapes = torch.from_numpy(draws.uniform(low, high, images)).exp().numpy()
        first = np.rint(np.sqrt(areas * shapes)).astype(np.int64)
        second = np.rint(np.sqrt(areas / shapes)).astype(np.int64)
        heights, widths = (first, second) if ratio_is_of_height else (second, first)
        found = fits(heights, widths)
        images, heights, widths = images[found], heights[found], widths[found]
        tops = draws.below(height - heights + 1, images)
        lefts = draws.below(width - widths + 1, images)
        boxes[todo[found]] = np.stack([tops, lefts, heights, widths], axis=-1)
        todo = todo[~found]
    return boxes
