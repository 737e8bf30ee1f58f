from typing import Any, Optional, Tuple

import numpy as np
import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_boxes import draw_boxes
from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import one_by_one
from allencv.data.transforms.batch_resize import FILTERS, resized_parts
from allencv.data.transforms.image_transform import Draft, ImageTransform, OnBatch
from allencv.data.transforms.torchvision_transform import TorchvisionTransform


@ImageTransform.register("random_resized_crop")
class RandomResizedCrop(TorchvisionTransform):
    """
    torchvision's `RandomResizedCrop`, which can decode a JPEG file at a fraction of its size.

    Input and output are `(channels, any, any)` and `(channels, height, width)`.

    Registered as an `ImageTransform` with name "random_resized_crop".

    # Parameters

    size : `Union[int, List[int]]`, required
        The size of the result in pixels: one number for a square, or `[height, width]`.
    scale : `List[float]`, optional (default = `[0.08, 1.0]`)
        The area of the crop as a share of the image: smallest and largest.
    ratio : `List[float]`, optional (default = `[0.75, 1.333]`)
        The ratio of width to height of the crop: smallest and largest.
    interpolation : `str`, optional (default = `"bilinear"`)
        "nearest", "nearest-exact", "bilinear", "bicubic" or "lanczos".
    antialias : `bool`, optional (default = `True`)
    dct_scaling : `bool`, optional (default = `False`)
        Decode a JPEG file at a half, a quarter or an eighth of its size if the crop has more than
        two, four or eight times as many pixels as the result along both sides. libjpeg then
        computes fewer pixels from the cosine transform (DCT) in the file. The draws stay the same,
        but the edges of the crop move to the nearest second, fourth or eighth pixel, and pixels
        differ by about 1 of 255, less than "bilinear" differs from "bicubic". Images in other
        formats are decoded in full.

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomResizedCrop.html
    """

    torchvision_class = v2.RandomResizedCrop

    def __init__(
        self,
        size: Any,
        scale: Any = (0.08, 1.0),
        ratio: Any = (3 / 4, 4 / 3),
        interpolation: Any = "bilinear",
        antialias: Any = True,
        dct_scaling: bool = False,
    ) -> None:
        super().__init__(size, scale, ratio, interpolation, antialias)
        self.dct_scaling = dct_scaling
        # torchvision reads single numbers from a tensor at each draw, which is slow.
        self._transform._log_ratio = self._transform._log_ratio.tolist()

    def draft(self, height: int, width: int) -> Optional[Draft]:
        if not self.dct_scaling:
            return None
        crop = self._transform.make_params([torch.empty((1, height, width), device="meta")])
        target_height, target_width = (self._transform.size * 2)[:2]
        shrink = 8
        while shrink > 1 and (
            crop["height"] < shrink * target_height or crop["width"] < shrink * target_width
        ):
            shrink //= 2

        def apply(image: torch.Tensor) -> torch.Tensor:
            # A pixel of the smaller image covers `part` by `part` pixels of the whole.
            part = 1 if image.shape[-2:] == (height, width) else shrink
            params = {key: round(value / part) for key, value in crop.items()}
            params["height"] = min(params["height"], image.shape[-2] - params["top"])
            params["width"] = min(params["width"], image.shape[-1] - params["left"])
            with torch._C.DisableTorchFunction():
                return self._transform.transform(image, params)

        return Draft(shrink, apply)

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        crop = self._transform
        interpolation = str(v2.InterpolationMode(crop.interpolation).value)
        on_cpu = images.device.type == "cpu"
        if not on_cpu and (interpolation not in FILTERS or not crop.antialias):
            return None
        height, width = images.shape[-2:]
        boxes = draw_boxes(
            draws,
            np.arange(len(draws)),
            (height, width),
            crop,
            lambda heights, widths: (
                (heights > 0) & (heights <= height) & (widths > 0) & (widths <= width)
            ),
        )
        boxes[boxes[:, 0] < 0] = self._central_box(height, width)
        if on_cpu:
            listed = boxes.tolist()
            return lambda images: one_by_one(
                images,
                lambda number, image: v2.functional.resized_crop_image(
                    image, *listed[number], crop.size, crop.interpolation, crop.antialias
                ),
            )
        target_height, target_width = (crop.size * 2)[:2]
        size = (target_height, target_width)
        return lambda images: resized_parts(images, boxes, size, interpolation)

    def _central_box(self, height: int, width: int) -> Tuple[int, int, int, int]:
        """Return the crop of an image in which no drawn one fits, as torchvision does."""
        least, most = min(self._transform.ratio), max(self._transform.ratio)
        crop_height, crop_width = height, width
        if width / height < least:
            crop_height = round(width / least)
        elif width / height > most:
            crop_width = round(height * most)
        return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width
