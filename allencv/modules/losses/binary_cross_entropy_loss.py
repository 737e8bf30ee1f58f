from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.common.label_shares import as_shares
from allencv.modules.losses.classification_loss import (
    ClassificationLoss,
    check_label_smoothing,
    weighted_mean,
)


@ClassificationLoss.register("binary_cross_entropy")
class BinaryCrossEntropyLoss(ClassificationLoss):
    """
    The cross entropy of a sigmoid for each label separately, averaged over images and labels: the
    usual loss for images with several labels. With one label per image, the target is 1 for the
    right class and 0 for the others: Wightman et al. 2021, "ResNet strikes back", arXiv:2110.00476,
    section 2. The logits, and therefore the step sizes, then differ from those of "cross_entropy".

    With one label per image, `class_weights` weight the image by its class, or by the shares of its
    classes before smoothing and thresholding. For images that look alike the loss is smallest if
    the sigmoid of each class is the weighted mean of its targets. With several labels they multiply
    the terms of a label, and the loss is smallest at the plain mean of its targets.

    Registered as a `ClassificationLoss` with name "binary_cross_entropy".

    # Parameters

    label_smoothing : `float`, optional (default = `0.0`)
        In [0, 1). With one label per image, the share of the target that is spread over all
        classes; with several, how far each 0 or 1 is moved towards 0.5 (1 is all the way).
    target_threshold : `float`, optional (default = `None`)
        Targets above it become 1 and the others 0, after smoothing and mixing. With 0.2, an image
        that mixup made from two has both labels, unless one has at most a fifth. In [0, 1).
    """

    def __init__(
        self, label_smoothing: float = 0.0, target_threshold: Optional[float] = None
    ) -> None:
        super().__init__()
        check_label_smoothing(label_smoothing)
        if target_threshold is not None and not 0 <= target_threshold < 1:
            raise ConfigurationError(
                f"model.loss.target_threshold is {target_threshold}; expected a number in [0, 1)"
            )
        self.label_smoothing = label_smoothing
        self.target_threshold = target_threshold

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        num_labels = logits.shape[-1]
        shares = as_shares(targets, num_labels)
        wanted = shares
        absent = self.label_smoothing * (0.5 if self.multi_label else 1 / num_labels)
        if self.label_smoothing:
            wanted = wanted * (1 - self.label_smoothing) + absent
        if self.target_threshold is not None:
            self._check_threshold(absent, 1 - self.label_smoothing + absent)
            wanted = (wanted > self.target_threshold).float()
        if self.multi_label:
            return F.binary_cross_entropy_with_logits(logits.float(), wanted, class_weights)
        terms = F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
        return weighted_mean(terms.mean(-1), shares, class_weights)

    def _check_threshold(self, absent: float, present: float) -> None:
        """Raise if the threshold does not separate the smoothed targets of a whole label."""
        if not absent <= (self.target_threshold or 0) < present:
            raise ConfigurationError(
                f"model.loss.target_threshold is {self.target_threshold}, but label_smoothing "
                f"{self.label_smoothing} makes targets {absent:.3g} and {present:.3g}; expected a "
                "threshold between them, or no label_smoothing"
            )
