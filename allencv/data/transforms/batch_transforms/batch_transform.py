from abc import abstractmethod
from typing import Tuple

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class BatchTransform(CheckedFromParams, Registrable):
    """
    Changes a batch of images and their labels together: mixes images, and with them what they are
    images of. A model applies it when it is trained, never when it is evaluated or predicts.

    Images are `(batch, channels, height, width)`, normalised floats on the model's device. Labels
    are `(batch,)` class numbers or `(batch, num_classes)` shares of the classes: of images with
    several labels, 0 or 1 for each. The result is new images of the same shape, and soft labels
    `(batch, num_classes)`: how much of the image has each label, so that over a batch the shares
    of a label add up to what they did before.

    It draws its random numbers on the CPU from torch's global generator, so that the device is not
    waited for, and so that they are part of what a checkpoint keeps: a run that was interrupted
    goes on with the same draws.
    """

    @abstractmethod
    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError
