from typing import Optional

import numpy as np
import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_boxes import draw_boxes
from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import hide
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.torchvision_transform import TorchvisionTransform


@ImageTransform.register("random_erasing")
class RandomErasing(TorchvisionTransform):
    """
    torchvision's `RandomErasing`: overwrites a rectangle of the image.

    Zhong et al. 2020, "Random Erasing Data Augmentation", https://arxiv.org/abs/1708.04896

    Input and output are `(channels, height, width)`.

    Registered as an `ImageTransform` with name "random_erasing".

    # Parameters

    p : `float`, optional (default = `0.5`)
        The probability of erasing.
    scale : `List[float]`, optional (default = `[0.02, 0.33]`)
        The area of the rectangle as a share of the image: smallest and largest.
    ratio : `List[float]`, optional (default = `[0.3, 3.3]`)
        The ratio of height to width of the rectangle: smallest and largest.
    value : `Union[float, List[float], str]`, optional (default = `0`)
        The value of erased pixels, or one value per channel: 0 to 255 for `uint8` images. "random"
        draws each pixel from a normal distribution, for normalised images.
    inplace : `bool`, optional (default = `False`)
        Whether to overwrite the input.

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomErasing.html
    """

    torchvision_class = v2.RandomErasing

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        erasing = self._transform
        if erasing.value is None or len(erasing.value) not in (1, images.shape[1]):
            return None  # random pixels, or an error
        height, width = images.shape[-2:]
        which = np.flatnonzero(draws.shares() < self._probability)
        found = draw_boxes(
            draws,
            which,
            (height, width),
            erasing,
            lambda heights, widths: (heights < height) & (widths < width),
            ratio_is_of_height=True,
        )
        boxes = np.zeros((len(draws), 1, 4), np.int64)
        boxes[which, 0, :2] = found[:, :2]
        boxes[which, 0, 2:] = found[:, :2] + found[:, 2:]  # what fits nowhere stays empty
        values = torch.tensor(erasing.value).view(-1, 1, 1).to(images.dtype)
        return lambda images: hide(images, boxes, values)
