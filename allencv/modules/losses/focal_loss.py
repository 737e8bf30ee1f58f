from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from torchvision.ops import sigmoid_focal_loss

from allencv.common.label_shares import as_shares
from allencv.modules.losses.classification_loss import (
    ClassificationLoss,
    check_focusing,
    weighted_mean,
)


@ClassificationLoss.register("focal")
class FocalLoss(ClassificationLoss):
    """
    Cross entropy in which well predicted images count less: each term is multiplied by
    `(1 - p) ** gamma`, where `p` is the probability of the truth. Lin et al. 2017, "Focal Loss for
    Dense Object Detection", arXiv:1708.02002.

    With several labels per image, it is torchvision's `sigmoid_focal_loss`, averaged over images
    and labels. With one, the softmax gets the same factor; `gamma` 0 is "cross_entropy".

    With one label per image, `class_weights` weight the image as in "cross_entropy". For images
    that look alike, the loss depends only on the weighted shares of the classes. With `gamma` 0 it
    is smallest at these; the larger `gamma`, the closer together the best probabilities are. With
    several labels, `class_weights` multiply the terms of a label; no best probability changes.

    Registered as a `ClassificationLoss` with name "focal".

    # Parameters

    gamma : `float`, optional (default = `2.0`)
        0, or at least 1; the paper recommends 2.
    alpha : `float`, optional (default = `None`)
        Only for several labels per image: the weight of present labels, in [0, 1]; absent labels
        weigh `1 - alpha`. The paper uses 0.25 with `gamma` 2. `None` means 1 for both. With one
        label per image, use the model's `class_weights` instead.
    """

    def __init__(self, gamma: float = 2.0, alpha: Optional[float] = None) -> None:
        super().__init__()
        check_focusing("gamma", gamma)
        if alpha is not None and not 0 <= alpha <= 1:
            raise ConfigurationError(
                f"model.loss.alpha is {alpha}; expected a number in [0, 1], or null"
            )
        self.gamma = gamma
        self.alpha = alpha

    def for_task(self, multi_label: bool) -> None:
        super().for_task(multi_label)
        if self.alpha is not None and not multi_label:
            raise ConfigurationError(
                f"model.loss.alpha is {self.alpha}; expected none, as the images have one label "
                "each; model.class_weights weighs classes"
            )

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        if self.multi_label:
            # in torchvision, -1 means a weight of 1 for both kinds
            alpha = -1 if self.alpha is None else self.alpha
            terms = sigmoid_focal_loss(logits.float(), targets.float(), alpha, self.gamma)
            return (terms if class_weights is None else terms * class_weights).mean()
        log_probs = logits.float().log_softmax(-1)
        terms = -((1 - log_probs.exp()) ** self.gamma) * log_probs
        losses = (as_shares(targets, logits.shape[-1]) * terms).sum(-1)
        return weighted_mean(losses, targets, class_weights)
