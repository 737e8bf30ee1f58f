from functools import cached_property
from typing import List, Optional

import numpy as np
import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import in_layout, is_by_pixels, windows
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.random_source import draw_below
from allencv.data.transforms.torchvision_transform import TorchvisionTransform


@ImageTransform.register("random_crop")
class RandomCrop(TorchvisionTransform):
    """
    torchvision's `RandomCrop`: pads an image and crops it at a random place. `uint8` images with
    constant padding take a shorter way to the same draws and pixels.

    Input and output are `(channels, any, any)` and `(channels, height, width)`.

    Registered as an `ImageTransform` with name "random_crop".

    # Parameters

    size : `Union[int, List[int]]`, required
        The size of the result in pixels: one number for a square, or `[height, width]`.
    padding : `Union[int, List[int]]`, optional (default = `None`)
        How many pixels to add: one number for all sides, two for left/right and top/bottom, or four
        for left, top, right and bottom.
    pad_if_needed : `bool`, optional (default = `False`)
        Whether to pad images that are smaller than `size`, which are an error otherwise.
    fill : `Union[float, List[float]]`, optional (default = `0`)
        The value of added pixels, or one value per channel.
    padding_mode : `str`, optional (default = `"constant"`)
        "constant", "edge", "reflect" or "symmetric".

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomCrop.html
    """

    torchvision_class = v2.RandomCrop

    @cached_property
    def _is_simple(self) -> bool:
        """Whether numpy may add the pixels."""
        fill, padding = self._transform.fill, self._transform.padding or [0]
        is_pixel = isinstance(fill, int) and 0 <= fill <= 255
        return is_pixel and self._transform.padding_mode == "constant" and min(padding) >= 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        # In a `random_source` each call of torch, even `shape`, takes a way through Python.
        with torch._C.DisableTorchFunction():
            cropped = self._cropped(image)
        return super().__call__(image) if cropped is None else cropped

    def _cropped(self, image: torch.Tensor) -> Optional[torch.Tensor]:
        """Return the crop, or `None` before any draw if torchvision has to make it."""
        pad_left, pad_right, pad_top, pad_bottom = self._transform.padding or (0, 0, 0, 0)
        height, width = self._transform.size
        free_rows = image.shape[1] + pad_top + pad_bottom - height
        free_columns = image.shape[2] + pad_left + pad_right - width
        is_simple = self._is_simple and image.dtype == torch.uint8
        if not is_simple or free_rows < 0 or free_columns < 0:
            return None
        top = draw_below(free_rows + 1) if free_rows else 0
        left = draw_below(free_columns + 1) if free_columns else 0
        if not any((pad_left, pad_right, pad_top, pad_bottom)):
            return image[:, top : top + height, left : left + width]
        # Each operation of torch frees Python's lock and waits for it again; numpy's do not.
        return torch.from_numpy(self._crop(image.numpy(), top - pad_top, left - pad_left))

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        transform = self._transform
        height, width = transform.size
        pad_left, pad_right, pad_top, pad_bottom = transform.padding or (0, 0, 0, 0)
        padding = [pad_left, pad_top, pad_right, pad_bottom]
        free_rows = images.shape[2] + pad_top + pad_bottom - height
        free_columns = images.shape[3] + pad_left + pad_right - width
        if free_rows < 0 or free_columns < 0:
            return None
        none = np.zeros(len(draws), np.int64)
        tops = draws.below(free_rows + 1) if free_rows else none
        lefts = draws.below(free_columns + 1) if free_columns else none

        def apply(images: torch.Tensor) -> torch.Tensor:
            by_pixels = is_by_pixels(images)
            if any(padding):
                # numpy gives images by channels, and torchvision as it pads one.
                is_simple = self._is_simple and images.dtype == torch.uint8
                by_pixels = not is_simple and self._pad(images[0], padding).stride(0) == 1
                images = in_layout(self._pad(images, padding), by_pixels)
            return windows(images, tops, lefts, height, width)

        return apply

    def _pad(self, images: torch.Tensor, padding: List[int]) -> torch.Tensor:
        mode, fill = self._transform.padding_mode, self._transform.fill
        sides = (images.shape[-1], images.shape[-2]) * 2
        is_short = all(0 <= pixels < side for pixels, side in zip(padding, sides))
        if mode == "constant" or not is_short or images.dim() == 3:
            return v2.functional.pad(images, padding, fill, mode)
        # torchvision would make them float and back.
        left, top, right, bottom = padding
        for dimension, pixels in ((2, (top, bottom)), (3, (left, right))):
            places = np.pad(np.arange(images.shape[dimension]), pixels, mode)
            images = images.index_select(dimension, torch.from_numpy(places).to(images.device))
        return images

    def _crop(self, image: np.ndarray, top: int, left: int) -> np.ndarray:
        """Crop an image at a place that may be outside of it."""
        channels, rows, columns = image.shape
        height, width = self._transform.size
        first, start = max(top, 0), max(left, 0)
        last, stop = max(first, min(top + height, rows)), max(start, min(left + width, columns))
        # As torchvision does, in the layout (channels, height, width).
        result = np.full((channels, height, width), self._transform.fill, image.dtype)
        result[:, first - top : last - top, start - left : stop - left] = image[
            :, first:last, start:stop
        ]
        return result
