from typing import List, Optional, Tuple

import numpy as np
import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_colors import ADJUSTMENTS
from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.batch_memory import one_by_one, picked, put_back
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.torchvision_transform import TorchvisionTransform

FACTORS = ("brightness", "contrast", "saturation", "hue")
"""What torchvision adjusts, in the order of its numbers."""


@ImageTransform.register("color_jitter")
class ColorJitter(TorchvisionTransform):
    """
    torchvision's `ColorJitter`: changes brightness, contrast, saturation and hue at random, in
    random order.

    Input and output are `(channels, height, width)`, with 1 or 3 channels.

    Registered as an `ImageTransform` with name "color_jitter".

    # Parameters

    brightness : `Union[float, List[float]]`, optional (default = `None`)
        How much to change the brightness: 0.4 multiplies it by 0.6 to 1.4. Or the smallest and the
        largest factor.
    contrast : `Union[float, List[float]]`, optional (default = `None`)
        The same for the contrast.
    saturation : `Union[float, List[float]]`, optional (default = `None`)
        The same for the saturation.
    hue : `Union[float, List[float]]`, optional (default = `None`)
        How much to turn the hue, at most 0.5, which is half of the colour circle: 0.1 turns it by
        -0.1 to 0.1. Or the smallest and the largest turn.

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.ColorJitter.html
    """

    torchvision_class = v2.ColorJitter

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        jitter = self._transform
        if images.shape[1] not in (1, 3):
            return None  # an error
        orders = draws.orders(len(FACTORS))
        ranges: List[Optional[Tuple[float, float]]] = [getattr(jitter, name) for name in FACTORS]
        factors = [None if each is None else draws.uniform(*each) for each in ranges]
        if images.device.type != "cpu":
            return lambda images: _adjusted(images, orders, factors)
        return lambda images: one_by_one(
            images,
            lambda number, image: jitter.transform(
                image,
                {
                    "fn_idx": orders[number].tolist(),
                    **{
                        f"{name}_factor": None if each is None else float(each[number])
                        for name, each in zip(FACTORS, factors)
                    },
                },
            ),
        )


def _adjusted(
    images: torch.Tensor, orders: np.ndarray, factors: List[Optional[np.ndarray]]
) -> torch.Tensor:
    """Adjust each image `(batch, channels, height, width)` by its factors, in its order."""
    for place in range(len(FACTORS)):
        for number, of_images in enumerate(factors):
            which = np.flatnonzero(orders[:, place] == number)
            if of_images is not None and len(which):
                adjust = ADJUSTMENTS[FACTORS[number]]
                changed = adjust(picked(images, which), of_images[which])
                images = put_back(images, which, changed)
    return images
