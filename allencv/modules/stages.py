"""The stages of a network from input to output, for `get_stages`: lists of names."""

from collections import Counter
from typing import Dict, Iterable, List, Sequence

import torch


def layer_stages(module: torch.nn.Module, containers: Sequence[str] = ()) -> List[List[str]]:
    """
    Return a stage for each direct child of `module`, or of the children named in `containers`, with
    a weight of at least two dimensions, in the order of registration. A child without such a weight
    joins the stage before it (a normalisation follows its convolution), or the first.
    """
    # "" for names outside all containers; longest name first
    inside = sorted((f"{name}." for name in containers), key=len, reverse=True)
    has_weight: Dict[str, bool] = {}
    for name, parameter in module.named_parameters():
        container = next((prefix for prefix in inside if name.startswith(prefix)), "")
        part = container + name[len(container) :].split(".")[0]
        weight = name.endswith("weight") and parameter.dim() > 1
        has_weight[part] = has_weight.get(part, False) or weight

    stages: List[List[str]] = []
    complete = True
    for part, weight in has_weight.items():
        if not stages or (weight and complete):
            stages.append([part])
            complete = weight
        else:
            stages[-1].append(part)
            complete = complete or weight
    return stages


def shortest_prefixes(groups: Iterable[List[str]]) -> List[List[str]]:
    """
    Shorten each group of parameter names to the fewest prefixes: modules entirely in the group, and
    the remaining names. `[["a.w", "a.b", "c.1.w"], ["c.2.w"]]` becomes `[["a", "c.1"], ["c.2"]]`.
    """
    groups = list(groups)
    sizes = Counter(prefix for names in groups for name in names for prefix in _prefixes(name))
    shortened = []
    for names in groups:
        own_sizes = Counter(prefix for name in names for prefix in _prefixes(name))
        whole = (
            next(prefix for prefix in _prefixes(name) if own_sizes[prefix] == sizes[prefix])
            for name in names
        )
        shortened.append(list(dict.fromkeys(whole)))
    return shortened


def _prefixes(name: str) -> List[str]:
    """Return `["a", "a.b", "a.b.w"]` for `"a.b.w"`."""
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
