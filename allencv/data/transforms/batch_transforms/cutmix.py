from typing import Tuple

import torch
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform, soft_labels


@BatchTransform.register("cutmix")
class CutMix(BatchTransform):
    """
    torchvision's `CutMix`: a rectangle of each image is replaced with that of the image before it
    in the batch, and the label is shared out by area. The rectangle is drawn once for each batch.
    The batch must be shuffled, or else an image meets those of its own class alone.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or `(batch,
    num_classes)`; the result's labels are `(batch, num_classes)`.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", https://arxiv.org/abs/1905.04899

    Registered as a `BatchTransform` with name "cutmix".

    # Parameters

    alpha : `float`, optional (default = `1.0`)
        The area that is kept is drawn from Beta(alpha, alpha), of which the part of the rectangle
        that lies outside the image is given back. Above 0. The paper has 1: any area alike.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        if alpha <= 0:
            raise ConfigurationError(f"cutmix.alpha is {alpha}; expected a number above 0")
        self.alpha = alpha
        self._mix = v2.CutMix(alpha=float(alpha))  # 1.0 in a config arrives as the integer 1

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        return self._mix(images, soft_labels(labels, num_classes))
