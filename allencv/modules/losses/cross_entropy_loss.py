from typing import Optional

import torch
from torch.nn import functional as F

from allencv.modules.losses.classification_loss import (
    ClassificationLoss,
    check_label_smoothing,
    weighted_mean,
)


@ClassificationLoss.register("cross_entropy")
class CrossEntropyLoss(ClassificationLoss):
    """
    torch's `cross_entropy`, the loss of a softmax. Targets are class indices `(batch,)`, or shares
    of the classes `(batch, num_labels)` (soft targets).

    With `class_weights` it is the sum over images of `weight * cross_entropy`, divided by the sum
    of the weights. The weight of an image is that of its class, or the mean of the weights by its
    shares. For images that look alike, the loss is smallest if a class has the probability
    `(1 - label_smoothing) * prior + label_smoothing / num_labels`; `prior` is the weighted share of
    the class among these images. Without label smoothing, indices give torch's own weighted loss.

    Registered as a `ClassificationLoss` with name "cross_entropy".

    # Parameters

    label_smoothing : `float`, optional (default = `0.0`)
        The share of the target that is spread over all classes, in [0, 1); Szegedy et al. 2016,
        "Rethinking the Inception Architecture", section 7.
    """

    takes_multi_label = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        check_label_smoothing(label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        reduction = "mean" if class_weights is None else "none"
        losses = F.cross_entropy(
            logits.float(), targets, reduction=reduction, label_smoothing=self.label_smoothing
        )
        return losses if class_weights is None else weighted_mean(losses, targets, class_weights)
