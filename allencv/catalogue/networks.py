"""Recognise the names of networks, which some encoders take under a key of their own."""

import re
from typing import Any, Dict, Iterable, Optional

import timm
import torchvision
from allennlp.models import Model

from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2im_encoders.resnet_encoder import MODELS


def config_of_network(name: str, registry: type) -> Optional[Dict[str, Any]]:
    """
    Return the config of a part with the network of this name, in any spelling, such as "ResNet-50".
    Return `None` for other names, and for a registry other than `Im2ImEncoder` and `Model`.
    """
    if registry is Model and (encoder := _encoder(name)) is not None:
        return {"type": "basic_image_classifier", "im2im_encoder": encoder}
    return _encoder(name) if registry is Im2ImEncoder else None


def _encoder(name: str) -> Optional[Dict[str, Any]]:
    torchvisions = torchvision.models.list_models(module=torchvision.models)
    for kind, key, names in (
        ("pretrained_resnet", "resnet_model", MODELS),
        ("torchvision", "model_name", torchvisions),
        ("timm", "model_name", timm.list_models()),
    ):
        if (network := _same_name(name, names)) is not None:
            return {"type": kind, key: network}
    return {"type": "timm", "model_name": name} if timm.is_model(name) else None


def _same_name(name: str, names: Iterable[str]) -> Optional[str]:
    return next((each for each in names if _letters(each) == _letters(name)), None)


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())
