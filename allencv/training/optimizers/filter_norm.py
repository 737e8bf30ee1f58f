from typing import Any

import torch


def scale_filters(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """
    Give the filters of each weight the norm `filter_norm` of its parameter group, in the root mean
    square over the filters of the weight. A hook before the step of an optimizer.

    A filter is what belongs to one output channel. Weights of one dimension stay, as do those
    without a gradient (frozen ones), those that are 0, and those of a group without `filter_norm`.
    """
    for group in optimizer.param_groups:
        norm = group.get("filter_norm")
        trained = (each for each in group["params"] if each.grad is not None)
        weights = [each.detach() for each in trained if each.dim() > 1]
        if norm is None or not weights:
            continue
        norms = torch._foreach_norm(weights)
        factors = [
            torch.where(before > 0, norm * len(weight) ** 0.5 / before, 1.0)
            for weight, before in zip(weights, norms)
        ]
        torch._foreach_mul_(weights, factors)
