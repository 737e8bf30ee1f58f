from abc import abstractmethod
from typing import Tuple

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class BatchTransform(CheckedFromParams, Registrable):
    """
    Changes a batch of images and their labels together: it mixes images and their labels. A model
    applies it in training, never in evaluation or prediction.

    Images are `(batch, channels, height, width)`, normalised floats on the model's device. Labels
    are `(batch,)` class indices or `(batch, num_classes)` shares of the classes (0 or 1 each for
    images with several labels). The result is new images of the same shape, and soft labels
    `(batch, num_classes)`: the share of each label in the image. The sum of a label's shares over
    the batch stays the same.

    It draws random numbers on the CPU from torch's global generator. So nothing waits for the
    device, and checkpoints include the state: an interrupted run resumes with the same draws.
    """

    def mixes_features(self) -> bool:
        """
        Return whether it can be applied to the features of a frozen encoder in place of images: to
        feature maps, and to vectors as maps of one pixel.
        """
        return False

    @abstractmethod
    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor, num_classes: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError
