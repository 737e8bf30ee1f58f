"""Reads pretrained weights, downloads torchvision's, and loads them into a network."""

import argparse
import contextlib
import os
import sys
from collections import OrderedDict
from typing import Any, Dict

import torch
import torchvision
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""The keys under which training checkpoints of timm and others hold the weights."""


def read_state_dict(path: str) -> Dict[str, torch.Tensor]:
    """
    Return the weights in a safetensors file (".safetensors") or a file of `torch.save`. From a
    training checkpoint of timm, averaged weights (EMA) are preferred. The `module.` of distributed
    training is removed from names. No code in the file is run. Raises `ConfigurationError` for
    other contents, with `weights` as the key.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            # timm's checkpoints hold the training arguments beside the weights.
            with torch.serialization.safe_globals([argparse.Namespace]):
                state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the kind of error depends on what the file really is
        raise ConfigurationError(
            f"weights is {path!r}, which cannot be read ({reason(error)}); expected a state dict "
            "saved by torch.save or as .safetensors"
        ) from error
    if isinstance(state, dict):
        wrapped = (state[key] for key in _WRAPPERS if isinstance(state.get(key), dict))
        state = dict(next(wrapped, state))
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and torch.is_tensor(value) for name, value in state.items()
    ):
        raise ConfigurationError(
            f"weights is {path!r}, which holds a {type(state).__name__}; expected a state dict of "
            "names and tensors only"
        )
    consume_prefix_in_state_dict_if_present(state, "module.")
    return state


def torchvision_state_dict(model_name: str, weights: str) -> Dict[str, torch.Tensor]:
    """
    Return the weights of torchvision's network `model_name`. `weights` is a name such as "DEFAULT"
    or "IMAGENET1K_V1", downloaded once to torch.hub's folder, or the path of a file. Raises
    `ConfigurationError` if it is neither, or if the download fails.
    """
    known = torchvision.models.get_model_weights(model_name).__members__
    if weights in known:
        return _download(known[weights])
    if os.path.isfile(weights):
        return read_state_dict(weights)
    raise ConfigurationError(
        f"weights is {weights!r}; expected the path of a file that exists, or one of "
        f"torchvision's weights for {model_name}: {', '.join(known)}"
    )


def load_fitting(
    module: torch.nn.Module, state: Dict[str, torch.Tensor], weights: str, expected: str
) -> None:
    """
    Load `state` into `module`. Raises `ConfigurationError` if a name or a shape differs, for
    `weights` (the config's value), with what was `expected`.
    """
    own_state = module.state_dict()
    # Files from before PyTorch 1.0 lack batch counters.
    needed = [name for name in own_state if not name.endswith("num_batches_tracked")]
    problems = {
        "lacks": [name for name in needed if name not in state],
        "has unknown": [name for name in state if name not in own_state],
        "has other shapes for": [
            name for name in needed if name in state and state[name].shape != own_state[name].shape
        ],
    }
    for problem, names in problems.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConfigurationError(
                f"weights is {weights!r}, which {problem} {', '.join(names[:3])}{more}; "
                f"expected {expected}"
            )
    # Order and version as in the network; values missing from a file keep their default.
    fitting = OrderedDict((name, state.get(name, value)) for name, value in own_state.items())
    fitting._metadata = own_state._metadata  # type: ignore[attr-defined]
    module.load_state_dict(fitting)


def adapt_input_channels(weight: torch.Tensor, input_channels: int) -> torch.Tensor:
    """
    Convert the weight of a first convolution for red, green and blue, of shape
    `(output_channels, 3, height, width)`, to `input_channels`. For 1 channel the three are summed,
    so a gray image gives the same output as in RGB. For other numbers they are repeated in turn (R,
    G, B, R, ...) and scaled by `3 / input_channels`, which keeps the size of the output. `timm`
    does the same for its `in_chans`.
    """
    if input_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    tiled = weight[:, torch.arange(input_channels) % 3]
    return tiled * (3 / input_channels)


def reason(error: Exception) -> str:
    """Return the class of an error and the first line of its message."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}"


def _download(weights: Any) -> Dict[str, torch.Tensor]:
    """Download the weights of a member of torchvision's weights enum."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torchvision prints what it downloads
            return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # of the network, the disk or torch.load
        folder = os.path.join(torch.hub.get_dir(), "checkpoints")
        raise ConfigurationError(
            f"could not load {os.path.basename(weights.url)} from {folder} or download it there "
            f"({reason(error)}): put it there yourself, or set weights to a local file, or to "
            "null for random initialisation"
        ) from error
