"""Fold batch normalisation into convolutions, for networks that are no longer trained."""

import copy
from typing import Any, Callable, Dict, List, Tuple, cast

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (torch.nn.Conv2d, Conv2dSame)
NORMS = (torch.nn.BatchNorm2d, BatchNormAct2d)
"""Exactly these types: a subclass may compute something else."""
TOLERANCE = 1e-4
"""The largest change of an output by rounding, as a share of the largest output."""


@torch.no_grad()
def with_folded_norms(network: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    """
    Return a copy of a network, in evaluation mode, in which convolutions have the weights of the
    batch normalisation that takes their output. It gives the same numbers, except for rounding, and
    reads and writes less memory.

    Return the network itself if this changes its output on `images`, as if the output of a
    convolution is also used elsewhere.

    # Parameters

    network : `torch.nn.Module`, required
        A network on the CPU whose output is a tensor.
    images : `torch.Tensor`, required
        An input of the network, such as noise. It shows which modules follow each other.
    """
    network.eval()
    expected = network(images)
    folded = copy.deepcopy(network)
    for convolution, norm in _pairs(folded, images):
        before = cast(torch.nn.Conv2d, folded.get_submodule(convolution))
        after = cast(torch.nn.BatchNorm2d, folded.get_submodule(norm))
        folded.set_submodule(convolution, fuse_conv_bn_eval(before, after))
        rest = [after.drop, after.act] if isinstance(after, BatchNormAct2d) else []
        folded.set_submodule(norm, torch.nn.Sequential(*rest))
    difference = (folded(images) - expected).abs().max()
    return folded if difference <= TOLERANCE * expected.abs().max() else network


def _pairs(network: torch.nn.Module, images: torch.Tensor) -> List[Tuple[str, str]]:
    """Return the names of convolutions, each with that of the normalisation of its output."""
    pairs: List[Tuple[str, str]] = []
    outputs: Dict[str, torch.Tensor] = {}  # of the last convolution
    seen: List[str] = []

    def hook_for(name: str) -> Callable[[torch.nn.Module, Tuple[Any, ...], Any], None]:
        def note(module: torch.nn.Module, inputs: Tuple[Any, ...], output: Any) -> None:
            seen.append(name)
            if type(module) in CONVOLUTIONS:
                outputs.clear()
                outputs[name] = output
            else:
                pairs.extend((each, name) for each in outputs if outputs[each] is inputs[0])

        return note

    hooks = [
        module.register_forward_hook(hook_for(name))
        for name, module in network.named_modules()
        if type(module) in (*CONVOLUTIONS, *NORMS)
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    # A module that is used twice has two neighbours.
    return [pair for pair in pairs if all(seen.count(name) == 1 for name in pair)]
