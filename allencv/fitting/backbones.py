"""The networks of `allencv fit --backbone`, and the choice between them."""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import timm
import torch
import torchvision
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from timm.data import IMAGENET_DEFAULT_MEAN

from allencv.fitting.data_facts import DataFacts
from allencv.fitting.options import NO_WEIGHTS
from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.weight_files import torchvision_state_dict

MANY_IMAGES = 5000
SMALL_NETWORKS = ("conv_groups", "small_resnet")
"""Networks of this project for training from scratch."""
DEFAULT_NETWORK = "conv_groups"
"""The most accurate one for a few minutes of a CPU: benchmarks/small_networks.py."""
SMALL_IMAGE = 64
"""Up to this size in pixels, a small network is trained from scratch."""
CONFIG_ADVICE = re.compile(
    r"(or )?set weights to a local file, or (set pretrained to false|to null) for random "
    "initialisation"
)
"""What errors of encoders say about keys of a config, where the user has given options."""


@dataclass
class Backbone:
    name: str
    encoder: Dict[str, Any]
    """Empty if `is_small_network`: see `small_encoder`. Then `channels` is 0."""
    channels: int
    is_pretrained: bool
    reason: str
    pixel_mean: Optional[Tuple[float, ...]] = None
    """The mean that the weights were trained with, if it is not ImageNet's usual one."""
    pixel_std: Optional[Tuple[float, ...]] = None
    image_size: Optional[int] = None
    """In pixels, if the network takes only this size."""
    network: Optional[Im2ImEncoder] = None
    """The built encoder, if it may refuse some image sizes."""
    warning: Optional[str] = None
    """What a user can do about missing pretrained weights, in several lines."""

    @property
    def is_small_network(self) -> bool:
        """Whether this is a network of this project. These take grey images, and do not pool."""
        return self.name in SMALL_NETWORKS


def choose_backbone(
    asked: Optional[str],
    weights: Optional[str],
    facts: DataFacts,
    has_much_to_see: bool,
    on_gpu: bool,
) -> Backbone:
    """
    Return the backbone that was requested. By default, return a pretrained ResNet if the images are
    large enough and its weights are available, or else "conv_groups", a small network without
    weights.
    """
    if asked is not None:
        return _asked(asked, weights)
    if weights not in (None, NO_WEIGHTS):
        raise ConfigurationError(
            f"--weights is {weights!r}; expected --backbone too, the network that they are for"
        )
    if not has_much_to_see:
        why = f"images of {facts.width} x {facts.height} pixels, learned from scratch"
        return _small(DEFAULT_NETWORK, why)
    if weights == NO_WEIGHTS:
        return _small(DEFAULT_NETWORK, "without pretrained weights, as requested")
    name = "resnet50" if on_gpu and facts.num_train >= MANY_IMAGES else "resnet18"
    try:
        torchvision_state_dict(name, "DEFAULT")
    except ConfigurationError as error:
        why = f"the weights of {name} are not available here; see the warning"
        backbone = _small(DEFAULT_NETWORK, why)
        backbone.warning = _missing_weights(name, error)
        return backbone
    return _built(
        name,
        {"type": "pretrained_resnet", "resnet_model": name, "weights": "DEFAULT"},
        "pretrained on ImageNet",
    )


def _missing_weights(name: str, error: ConfigurationError) -> str:
    """Return a warning in several lines: the reason, what it costs, and what to do."""
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    reason = str(error.__cause__).partition("\n")[0]
    return "\n".join(
        [
            f"WARNING: NO PRETRAINED WEIGHTS. Those of {name} are not in {folder}, and cannot be "
            f"downloaded ({reason}).",
            "A small network is trained from random weights, which is usually much less accurate.",
            "To use pretrained weights, do one of these and train into a new folder:",
            "  connect this machine to the internet",
            f"  on another machine download {url}",
            f"  and copy it into {folder}",
            "  give weights that you have: --backbone NAME --weights FILE",
            "If you want random weights: --weights none",
        ]
    )


def _asked(name: str, weights: Optional[str]) -> Backbone:
    if name in SMALL_NETWORKS:
        if weights not in (None, NO_WEIGHTS):
            raise ConfigurationError(f"--weights is {weights!r}; {name} has none")
        return _small(name, "as requested")
    is_random = weights == NO_WEIGHTS
    if name in torchvision.models.list_models(module=torchvision.models):
        encoder: Dict[str, Any] = {"type": "torchvision", "model_name": name}
        encoder["weights"] = None if is_random else weights or "DEFAULT"
    elif timm.is_model(name):
        encoder = {"type": "timm", "model_name": name}
        encoder |= (
            {"weights": weights} if weights and not is_random else {"pretrained": not is_random}
        )
    else:
        known = {*SMALL_NETWORKS, *torchvision.models.list_models(), *timm.list_models()}
        nearest = ", ".join(get_close_matches(name, known, n=3)) or "resnet18"
        raise ConfigurationError(
            f"--backbone is {name!r}; expected conv_groups, small_resnet, or a name of "
            f"torchvision.models or of timm, such as {nearest}"
        )
    reason = "as requested" + (", from random weights" if is_random else ", pretrained")
    try:
        backbone = _built(name, encoder, reason, not is_random)
    except ConfigurationError as error:
        message = CONFIG_ADVICE.sub("or give a local file with --weights FILE", error.message)
        raise ConfigurationError(re.sub("^weights is", "--weights is", message)) from error
    if encoder["type"] == "timm":
        published = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
        if published.mean != IMAGENET_DEFAULT_MEAN:
            backbone.pixel_mean, backbone.pixel_std = published.mean, published.std
        if published.fixed_input_size:
            backbone.image_size = published.input_size[-1]
    return backbone


def _built(name: str, encoder: Dict[str, Any], reason: str, is_pretrained: bool = True) -> Backbone:
    """Build the encoder, to learn its output channels and that its weights load."""
    built = Im2ImEncoder.from_params(Params(dict(encoder)))
    return Backbone(
        name, encoder, built.get_output_channels(), is_pretrained, reason, network=built
    )


def _small(name: str, reason: str) -> Backbone:
    return Backbone(name, {}, 0, False, reason)


def small_encoder(name: str, input_channels: int, size: int) -> Tuple[Dict[str, Any], int]:
    """
    Return the encoder of a network of this project for images of `size` pixels, and its output
    channels.
    """
    if name == "conv_groups":
        widths = [32, 128, 128] if size <= SMALL_IMAGE else [32, 64, 128, 256]
        # As many as "whitening" gives: twice the numbers of a patch of 2 by 2 pixels.
        groups = {"type": name, "widths": widths, "input_channels": 8 * input_channels}
        encoder = {"type": "whitening", "input_channels": input_channels, "encoder": groups}
    else:
        widths = [32, 64, 128, 256] if size > SMALL_IMAGE else [32, 64, 128]
        encoder = {
            "type": name,
            "widths": widths,
            "input_channels": input_channels,
            "stem_stride": 1 if size <= 32 else 2,
        }
    return encoder, widths[-1]
