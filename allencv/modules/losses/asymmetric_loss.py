from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.losses.classification_loss import ClassificationLoss, check_focusing


@ClassificationLoss.register("asymmetric")
class AsymmetricLoss(ClassificationLoss):
    """
    A loss for images that each have a few of many labels. Labels that an image does not have count
    less than its labels, and nothing once they are predicted well. Ridnik et al. 2021, "Asymmetric
    Loss For Multi-Label Classification", arXiv:2009.14119, equations 4 to 7. The terms are summed
    over labels and averaged over images. `class_weights` multiply the terms of a label; its best
    probability stays the same.

    Registered as a `ClassificationLoss` with name "asymmetric".

    # Parameters

    gamma_positive : `float`, optional (default = `0.0`)
    gamma_negative : `float`, optional (default = `4.0`)
        The focusing of present and of absent labels, as in "focal". Each is 0 or at least 1. The
        defaults are the paper's.
    margin : `float`, optional (default = `0.05`)
        Subtracted from the probability of an absent label, in [0, 1). Absent labels below this
        probability do not count.
    """

    takes_single_label = False

    def __init__(
        self, gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05
    ) -> None:
        super().__init__()
        check_focusing("gamma_positive", gamma_positive)
        check_focusing("gamma_negative", gamma_negative)
        if not 0 <= margin < 1:
            raise ConfigurationError(f"model.loss.margin is {margin}; expected a number in [0, 1)")
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.margin = margin

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        logits, targets = logits.float(), targets.float()
        absent = (-logits).sigmoid()  # more exact than 1 - probs if a label is likely
        positive = absent**self.gamma_positive * F.logsigmoid(logits)
        if self.margin:
            absent = (absent + self.margin).clamp(max=1)
            log_absent = absent.log()
        else:
            log_absent = F.logsigmoid(-logits)
        negative = (1 - absent) ** self.gamma_negative * log_absent
        terms = -(targets * positive + (1 - targets) * negative)
        return (terms if class_weights is None else terms * class_weights).sum(-1).mean()
