from abc import abstractmethod
from typing import Optional

import torch
from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError

from allencv.common.checks import CheckedFromParams


class ClassificationLoss(CheckedFromParams, torch.nn.Module, Registrable):
    """
    A `ClassificationLoss` is a `Module` that compares the logits of a batch, `(batch, num_labels)`,
    with its targets, and returns one number, `float32` even under autocast.

    Targets are class indices `(batch,)`, or `(batch, num_labels)`: the shares of the classes, as
    mixup makes them, or for each label whether an image has it (0 or 1, or a share between). The
    model tells the loss with `for_task` which of the two its targets are.

    `class_weights`, `(num_labels,)`, have two meanings, depending on the targets:

    * If images have one label, the weight of an image is that of its class, or the mean over its
      classes by their shares, before label smoothing. The loss is the weighted mean over images:
      see `weighted_mean`. Label smoothing changes the target of an image, never its weight.
      (torch's `cross_entropy` also gives the smoothed share of a class the weight of that class. A
      rare class with a large weight then becomes the best answer for images of other classes:
      https://github.com/pytorch/pytorch/issues/104776.)
    * If images may have several labels, each label is a separate question. The terms of a label are
      multiplied by its weight, whether the image has the label or not. The weight sets how much the
      label counts relative to others; it does not change any best probability.
    """

    default_implementation = "cross_entropy"

    takes_single_label = True
    """Whether it works for images with exactly one label."""
    takes_multi_label = True
    """Whether it works for images with any number of labels."""
    num_views = 1
    """How many times in a row a training batch must contain each image."""

    def __init__(self) -> None:
        super().__init__()
        self.multi_label = False

    def for_task(self, multi_label: bool) -> None:
        """
        Set whether images may have several labels. The model calls this when it is built.

        # Raises

        `ConfigurationError` if the loss does not support this.
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


def image_weights(targets: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
    """
    Return the weight of each image, `(batch,)`: that of its class, or the mean by its shares.
    `targets` are class indices `(batch,)` or shares `(batch, num_labels)`.
    """
    return class_weights[targets] if targets.dim() == 1 else targets.float() @ class_weights


def weighted_mean(
    losses: torch.Tensor, targets: torch.Tensor, class_weights: Optional[torch.Tensor]
) -> torch.Tensor:
    """
    Return the mean of the losses of images with one label each, `(batch,)`, weighted by
    `image_weights`: the sum of weight times loss, divided by the sum of the weights, as in torch's
    `cross_entropy` for class indices. It is 0 if all images of a batch weigh 0.
    """
    if class_weights is None:
        return losses.mean()
    weights = image_weights(targets, class_weights)
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def check_label_smoothing(label_smoothing: float) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigurationError(
            f"model.loss.label_smoothing is {label_smoothing}; expected a number in [0, 1)"
        )


def check_focusing(key: str, gamma: float) -> None:
    """
    Check the exponent of a factor that goes to 0 for certain predictions. Between 0 and 1 its slope
    there is infinite, which makes gradients NaN.
    """
    if gamma != 0 and gamma < 1:
        raise ConfigurationError(
            f"model.loss.{key} is {gamma}; expected 0 (no focusing) or at least 1"
        )
