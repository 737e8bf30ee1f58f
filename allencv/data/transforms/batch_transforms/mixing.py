from typing import Tuple, Type

import torch
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.common.label_shares import as_shares
from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform


class Mixing(BatchTransform):
    """
    The base class of torchvision's transforms that mix each image with the previous one.

    # Parameters

    name : `str`
        The registered name, for messages.
    kind : `Type[v2.Transform]`
        torchvision's class.
    alpha : `float`
        Above 0.
    """

    def __init__(self, name: str, kind: Type[v2.Transform], alpha: float) -> None:
        if alpha <= 0:
            raise ConfigurationError(f"{name}.alpha is {alpha}; expected a number above 0")
        self.alpha = alpha
        self._mix = kind(alpha=float(alpha))  # 1.0 in a config arrives as the integer 1

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        return self._mix(images, as_shares(labels, num_classes))
