from typing import Any

import numpy as np
import torch
from torchvision.transforms import v2

from allencv.data.transforms.image_transform import ImageTransform
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

    def __init__(
        self,
        size: Any,
        padding: Any = None,
        pad_if_needed: Any = False,
        fill: Any = 0,
        padding_mode: Any = "constant",
    ) -> None:
        super().__init__(size, padding, pad_if_needed, fill, padding_mode)
        padding = self._transform.padding or (0, 0, 0, 0)
        self._pads = any(padding)
        self._left, right, self._top, bottom = padding
        height, width = self._transform.size
        self._rows_more, self._columns_more = (
            self._top + bottom - height,
            self._left + right - width,
        )
        is_pixel = isinstance(fill, int) and 0 <= fill <= 255
        self._is_simple = is_pixel and padding_mode == "constant" and min(padding) >= 0

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        _, rows, columns = image.shape
        free_rows, free_columns = rows + self._rows_more, columns + self._columns_more
        is_simple = self._is_simple and image.dtype == torch.uint8
        if not is_simple or free_rows < 0 or free_columns < 0:
            return super().__call__(image)
        top = int(torch.randint(free_rows + 1, ())) if free_rows else 0
        left = int(torch.randint(free_columns + 1, ())) if free_columns else 0
        with torch._C.DisableTorchFunction():
            if not self._pads:
                height, width = self._transform.size
                return image[:, top : top + height, left : left + width]
            # Each operation of torch frees Python's lock and waits for it again; numpy's do not.
            cropped = self._crop(image.numpy(), top - self._top, left - self._left)
            return torch.from_numpy(cropped)

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
