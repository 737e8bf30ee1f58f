import math
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.losses.classification_loss import (
    ClassificationLoss,
    check_label_smoothing,
    weighted_mean,
)


def jensen_shannon_divergence(logits: torch.Tensor) -> torch.Tensor:
    """
    Return how far the softmax distributions of several views of an image are from their mean: the
    Kullback-Leibler divergence from it, averaged over views, in nats, at most the logarithm of
    their number. Input shape: `(batch, views, num_labels)`; output shape: `(batch,)`.
    """
    log_probs = logits.log_softmax(-1)
    log_mean = log_probs.logsumexp(dim=1, keepdim=True) - math.log(logits.shape[1])
    return (log_probs.exp() * (log_probs - log_mean)).sum(-1).mean(-1)


@ClassificationLoss.register("jsd")
class JsdLoss(ClassificationLoss):
    """
    Cross entropy, with a penalty if views of the same image are predicted differently: the
    Jensen-Shannon consistency loss of AugMix (Hendrycks et al. 2020, arXiv:1912.02781, section 3).
    In training a batch holds each image `num_views` times in a row, each transformed anew: set
    `repeats` of the "image" data loader to the same number. The cross entropy is averaged over all
    views, which are all random; the paper uses only the one that is not augmented. In evaluation
    the loss is "cross_entropy".

    `class_weights` weight the image as in "cross_entropy", with its penalty. Views that are
    predicted alike have no penalty, so the minimum of the loss is that of "cross_entropy".

    Registered as a `ClassificationLoss` with name "jsd".

    # Parameters

    num_views : `int`, optional (default = `3`)
        At least 2. To keep the views of an image in one batch, choose a multiple of it as
        `data_loader.batch_size`, and set `data_loader.drop_last`.
    alpha : `float`, optional (default = `12.0`)
        The weight of the consistency penalty, above 0. The default is the paper's.
    label_smoothing : `float`, optional (default = `0.0`)
        As in "cross_entropy".

    # Raises

    `ConfigurationError` for a training batch whose size, or in the first batches whose targets,
    show that images are not repeated so often. `allennlp train` checks the config too.
    """

    takes_multi_label = False

    def __init__(
        self, num_views: int = 3, alpha: float = 12.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if num_views < 2:
            raise ConfigurationError(
                f"model.loss.num_views is {num_views}; expected at least 2, the number in "
                "data_loader.repeats"
            )
        if alpha <= 0:
            raise ConfigurationError(f"model.loss.alpha is {alpha}; expected a number above 0")
        check_label_smoothing(label_smoothing)
        self.num_views = num_views
        self.alpha = alpha
        self.label_smoothing = label_smoothing
        self._batches_to_check = 10

    def forward(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        logits = logits.float()
        losses = F.cross_entropy(
            logits, targets, reduction="none", label_smoothing=self.label_smoothing
        )
        if not self.training:
            return weighted_mean(losses, targets, class_weights)
        if len(logits) % self.num_views:
            raise ConfigurationError(
                f"model.loss.num_views is {self.num_views}, but a batch has {len(logits)} images; "
                f"expected data_loader.repeats of {self.num_views}, a data_loader.batch_size that "
                "this divides, and data_loader.drop_last"
            )
        # Shape: (images, num_views, num_labels)
        views = logits.unflatten(0, (-1, self.num_views))
        if self._batches_to_check:  # only at first, because reading the answer waits for the device
            self._batches_to_check -= 1
            self._check_views(targets)
        divergences = jensen_shannon_divergence(views).repeat_interleave(self.num_views)
        return weighted_mean(losses + self.alpha * divergences, targets, class_weights)

    def _check_views(self, targets: torch.Tensor) -> None:
        of_views = targets.unflatten(0, (-1, self.num_views))
        if not (of_views == of_views[:, :1]).all():
            raise ConfigurationError(
                f"model.loss.num_views is {self.num_views}, but images of a batch that should be "
                "views of one have different labels; expected data_loader.repeats of "
                f"{self.num_views}, a data_loader.batch_size that this divides, and no "
                "model.batch_transforms that mix labels"
            )
