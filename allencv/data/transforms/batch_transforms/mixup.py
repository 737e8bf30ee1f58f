from typing import Tuple

import torch
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform, soft_labels


@BatchTransform.register("mixup")
class MixUp(BatchTransform):
    """
    torchvision's `MixUp`: each image becomes the weighted mean of itself and the image before it in
    the batch, and so does its label. The weight is drawn once for each batch. The batch must be
    shuffled, or else an image meets those of its own class alone.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or `(batch,
    num_classes)`; the result's labels are `(batch, num_classes)`.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412

    Registered as a `BatchTransform` with name "mixup".

    # Parameters

    alpha : `float`, optional (default = `0.2`)
        The weight is drawn from Beta(alpha, alpha): near 0 or 1 if alpha is small, anywhere between
        for 1. Above 0. The paper has 0.1 to 0.4 for ImageNet and 1 for CIFAR.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        if alpha <= 0:
            raise ConfigurationError(f"mixup.alpha is {alpha}; expected a number above 0")
        self.alpha = alpha
        self._mix = v2.MixUp(alpha=float(alpha))  # 1.0 in a config arrives as the integer 1

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        return self._mix(images, soft_labels(labels, num_classes))
