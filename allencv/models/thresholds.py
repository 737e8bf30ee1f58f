import torch


def best_f1_thresholds(
    probs: torch.Tensor, targets: torch.Tensor, default: torch.Tensor
) -> torch.Tensor:
    """
    Find the threshold with the best F1 for each label. An image has the label if its probability is
    above. The highest of equally good thresholds is taken. It lies half way between two
    probabilities, so that rounding does not matter.

    # Parameters

    probs : `torch.Tensor`
        `(images, labels)`, between 0 and 1.
    targets : `torch.Tensor`
        `(images, labels)`, 0 or 1.
    default : `torch.Tensor`
        `(labels,)`: the thresholds of labels that no image has.
    """
    if len(probs) == 0:
        return default.clone()
    ranked, order = probs.sort(dim=0, descending=True)
    # Shape: (images, labels). Row k is for the k + 1 most probable images being given the label.
    right = targets.gather(0, order).cumsum(0)
    given = torch.arange(1, len(probs) + 1, device=probs.device).unsqueeze(-1)
    f1 = 2 * right / (given + targets.sum(0))
    below = torch.cat([ranked[1:], torch.zeros_like(ranked[:1])])
    f1[ranked == below] = -1  # no threshold parts equal probabilities
    best = f1.argmax(0, keepdim=True)
    upper, lower = ranked.gather(0, best)[0], below.gather(0, best)[0]
    middle = (upper + lower) / 2
    thresholds = torch.where(middle < upper, middle, lower)
    return torch.where(targets.any(0), thresholds, default)
