"""torchvision's classification networks without their last layer."""

import re
from typing import Any, Dict, List, Optional, Tuple

import torch
import torchvision
from allennlp.common.checks import ConfigurationError
from torchvision.models.feature_extraction import create_feature_extractor

from allencv.modules.pretrained_weights import pretrained_weights_skipped
from allencv.modules.weight_files import (
    adapt_input_channels,
    load_fitting,
    reason,
    torchvision_state_dict,
)

FEATURES = {
    "convnext": "features",
    "densenet": "relu",
    "efficientnet": "features",
    "googlenet": "inception5b",
    "maxvit": "blocks.3",
    "mnasnet": "layers",
    "mobilenet": "features",
    "regnet": "trunk_output",
    "resnet": "layer4",
    "resnext": "layer4",
    "shufflenet": "conv5",
    "swin": "permute",
    "vgg": "features",
    "wide_resnet": "layer4",
}
"""
For each start of a network's name, the node of torchvision's feature extraction before pooling. All
have the same stride. Missing networks have no feature map, or convolutions without padding, so
that its size is not a fraction of the image's.
"""
FEATURES_STRIDE = 32

_AUXILIARY = ("aux1", "aux2", "AuxLogits")
"""Auxiliary classifiers of googlenet and inception_v3, used only in their original training."""

_OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""The published weights of DenseNets say `norm.1` instead of `norm1`."""


def create_torchvision_network(
    model_name: str, weights: Optional[str], input_channels: int, arguments: Dict[str, Any]
) -> Tuple[torch.nn.Module, int]:
    """
    Return a network that outputs the input of its last layer, `(batch, channels)`, and the number
    of channels. `weights` are as in `torchvision_state_dict`.
    """
    network = _build(model_name, weights, input_channels, arguments)
    layers: List[Tuple[str, Any]] = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    (first_name, first_layer), (last_name, last_layer) = layers[0], layers[-1]
    convolution = isinstance(last_layer, torch.nn.Conv2d)  # as in SqueezeNet
    channels = last_layer.in_channels if convolution else last_layer.in_features
    network.set_submodule(last_name, torch.nn.Identity())
    if input_channels != 3:
        network.set_submodule(first_name, _with_input_channels(first_layer, input_channels))

    if weights is not None and not pretrained_weights_skipped():
        removed = tuple(f"{prefix}." for prefix in (last_name, *_AUXILIARY))
        state = {
            _OLD_DENSENET_NAME.sub(r"\1\2", key): value
            for key, value in torchvision_state_dict(model_name, weights).items()
            if not key.startswith(removed)
        }
        first = state.get(f"{first_name}.weight")
        if first is not None and first.shape[1] == 3 != input_channels:
            state[f"{first_name}.weight"] = adapt_input_channels(first, input_channels)
        expected = f"a state dict of {model_name} for {input_channels} channels"
        load_fitting(network, state, weights, expected)
    return network, channels


def without_pooling(
    network: torch.nn.Module, model_name: str, channels: int
) -> Tuple[torch.nn.Module, int]:
    """
    Return `network` up to its feature map, output as `{"features": image}`, and the channels of
    that image. `channels` is the number that the last layer takes.
    """
    node = next((node for name, node in FEATURES.items() if model_name.startswith(name)), None)
    if node is None:
        raise ConfigurationError(
            f"pool is false; expected true for {model_name}, which has no feature map of a fixed "
            f"stride: only networks whose names start with {', '.join(FEATURES)} have one"
        )
    # VGG and MobileNetV3 have another layer between the pooling and the last layer.
    between = getattr(network, "classifier", torch.nn.Identity()).modules()
    first = next((layer for layer in between if isinstance(layer, torch.nn.Linear)), None)
    if first is not None:
        pixels = 7 * 7 if model_name.startswith("vgg") else 1
        channels = first.in_features // pixels
    return create_feature_extractor(network, {node: "features"}), channels


def _build(
    model_name: str, weights: Optional[str], input_channels: int, arguments: Dict[str, Any]
) -> torch.nn.Module:
    for key in ("weights", "num_classes", "progress", "aux_logits", "transform_input"):
        if key in arguments:
            raise ConfigurationError(
                f"torchvision_arguments has {key!r}; expected other arguments of {model_name}"
            )
    if model_name in ("googlenet", "inception_v3"):
        # Their published weights need a different normalisation, which they compute here.
        transform = weights is not None and input_channels == 3
        own = {"aux_logits": False, "transform_input": transform, "init_weights": True}
        arguments = {**own, **arguments}
    try:
        return torchvision.models.get_model(model_name, weights=None, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{model_name} does not take torchvision_arguments {arguments} ({reason(error)})"
        ) from error


def _with_input_channels(layer: Any, input_channels: int) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(
        input_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        bias=layer.bias is not None,
    )
