from typing import Optional

import torch
from torchvision.transforms import v2

from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.image_transform import ImageTransform, OnBatch
from allencv.data.transforms.torchvision_transform import TorchvisionTransform


@ImageTransform.register("normalize")
class Normalize(TorchvisionTransform):
    """
    torchvision's `Normalize`: `(image - mean) / std` in each channel. Integer images, which
    torchvision rejects, are first converted to `float32` between 0 and 1.

    Input and output are `(channels, height, width)`.

    Registered as an `ImageTransform` with name "normalize".

    # Parameters

    mean, std : `List[float]`, required
        One number per channel, for values between 0 and 1.
    inplace : `bool`, optional (default = `False`)
        Whether to overwrite an image that is already float.

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.Normalize.html
    """

    torchvision_class = v2.Normalize

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if not image.is_floating_point():
            image = v2.functional.to_dtype(image, torch.float32, scale=True)
        return super().__call__(image)

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        return self
