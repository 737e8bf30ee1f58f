import torch
from torch.nn import functional as F


def as_shares(labels: torch.Tensor, num_labels: int) -> torch.Tensor:
    """
    Return labels as shares `(batch, num_labels)` of `float32`.

    # Parameters

    labels : `torch.Tensor`
        Class indices `(batch,)`; or shares, or 0 and 1 for each label, `(batch, num_labels)`.
    """
    if labels.dim() == 1:
        labels = F.one_hot(labels, num_labels)
    return labels.float()
