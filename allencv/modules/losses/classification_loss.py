from abc import abstractmethod
from typing import Optional

import torch
from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.common.checks import CheckedFromParams


class ClassificationLoss(CheckedFromParams, torch.nn.Module, Registrable):
    """
    A `ClassificationLoss` is a `Module` that compares the logits of a batch, `(batch, num_labels)`,
    with its targets, and returns one number, `float32` under autocast too.

    Targets are class indices `(batch,)`, or `(batch, num_labels)`: the shares of the classes, such
    as mixup makes them, or for each label whether an image has it (0 or 1, or a share between).
    `class_weights`, `(num_labels,)`, are what the terms of each label weigh.

    The model that has the loss says with `for_task` which of the two its targets are.
    """

    default_implementation = "cross_entropy"

    takes_single_label = True
    """Whether it can be used where each image has one label of several."""
    takes_multi_label = True
    """Whether it can be used where each image has any number of labels."""

    def __init__(self) -> None:
        super().__init__()
        self.multi_label = False

    def for_task(self, multi_label: bool) -> None:
        """
        Says whether images may have several labels. Called by the model when it is built.

        # Raises

        `ConfigurationError` if the loss is not made for that.
        """
        if not (self.takes_multi_label if multi_label else self.takes_single_label):
            several = "several labels" if multi_label else "one label"
            raise ConfigurationError(
                f"model.loss is a {type(self).__name__}, which is not for images with {several}; "
                f"expected another, such as "
                f"'{'binary_cross_entropy' if multi_label else 'cross_entropy'}'"
            )
        self.multi_label = multi_label

    @abstractmethod
    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        raise NotImplementedError


def as_shares(targets: torch.Tensor, num_labels: int) -> torch.Tensor:
    """Class indices `(batch,)`, or `(batch, num_labels)` shares or 0 and 1, as float shares."""
    if targets.dim() == 1:
        targets = F.one_hot(targets, num_labels)
    return targets.float()


def check_label_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigurationError(
            f"model.loss.label_smoothing is {label_smoothing}; expected a number in [0, 1)"
        )


def check_focusing(key: str, gamma: float) -> None:
    """
    An exponent of a factor that goes to 0 for what is certain. Between 0 and 1 its slope there is
    infinite, which ends in gradients that are no numbers.
    """
    if gamma != 0 and gamma < 1:
        raise ConfigurationError(
            f"model.loss.{key} is {gamma}; expected 0, which does without, or at least 1"
        )
