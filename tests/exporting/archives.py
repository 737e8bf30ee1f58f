"""Archives of networks that have learned nothing, which are as hard to export as any other."""

from copy import deepcopy
from typing import Any, Dict, List, Optional

import torch
from allennlp.common import Params
from allennlp.data import DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.models.archival import Archive

import allencv.plugin  # noqa: F401

LABELS = ["ant", "bee", "cat"]


def reader_of(transforms: List[Dict[str, Any]], **others: Any) -> DatasetReader:
    return DatasetReader.from_params(
        Params({"type": "image_folder", "transforms": transforms, **others})
    )


def archive_of(model: Dict[str, Any], transforms: Optional[List[Dict[str, Any]]] = None) -> Archive:
    """An archive of a basic image classifier; `model` is the config of it, without its type."""
    torch.manual_seed(0)
    vocab = Vocabulary(counter={"labels": {label: 9 - len(label) for label in LABELS}})
    config = Params({"type": "basic_image_classifier", **deepcopy(model)})
    classifier = Model.from_params(config, vocab=vocab)
    reader = reader_of(transforms or [{"type": "eval", "size": 32}])
    return Archive(classifier, Params({}), reader, reader, None)


def small_resnet() -> Dict[str, Any]:
    return {
        "im2im_encoder": {"type": "small_resnet", "widths": [8, 16], "blocks": [1, 1]},
        "im2vec_encoder": {"type": "pooling", "input_channels": 16},
    }


def timm_network(name: str, channels: int, **others: Any) -> Dict[str, Any]:
    encoder = {"type": "timm", "model_name": name, "pretrained": False, **others}
    return {
        "im2im_encoder": encoder,
        "im2vec_encoder": {"type": "pooling", "input_channels": channels},
    }
