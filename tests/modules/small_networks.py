"""torchvision's networks with few and narrow blocks, which are made and run in no time."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable

import pytest
import torch
from torchvision.models import convnext, densenet, maxvit, resnet
from torchvision.models import swin_transformer as swin
from torchvision.models import vision_transformer as vit
from torchvision.models.convnext import CNBlockConfig

CONVNEXT = [(8, 16, 1), (16, 24, 1), (24, 32, 1), (32, None, 1)]
SMALLER = [
    (convnext, "ConvNeXt", {"block_setting": [CNBlockConfig(*each) for each in CONVNEXT]}),
    (
        densenet,
        "DenseNet",
        {"growth_rate": 4, "block_config": (2, 1, 1, 1), "num_init_features": 8},
    ),
    (
        maxvit,
        "MaxVit",
        {
            **{"stem_channels": 8, "block_channels": [32] * 4, "block_layers": [1] * 4},
            **{"partition_size": 2, "input_size": (64, 64)},
        },
    ),
    (resnet, "ResNet", {"layers": [1, 1, 1, 1]}),
    (
        swin,
        "SwinTransformer",
        {"embed_dim": 16, "depths": [2, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    ),
    (
        vit,
        "VisionTransformer",
        {"num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 48},
    ),
]
"""The classes that torchvision's functions make, and what each is made with here."""


@contextmanager
def small_networks() -> Iterator[None]:
    """While it is open, `convnext_tiny` and others of these families have few parameters."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, arguments in SMALLER:
            patch.setattr(module, name, _made_with(getattr(module, name), arguments))
        patch.setattr(torch.nn.init, "trunc_normal_", _uniform)
        yield


def _made_with(cls: type, changed: dict[str, Any]) -> Callable:
    def make(*arguments: Any, **more: Any) -> Any:
        given = inspect.signature(cls).bind(*arguments, **more).arguments
        return cls(**{**given, **changed})

    return make


def _uniform(tensor: torch.Tensor, mean: float = 0, std: float = 1, *_: Any, **__: Any) -> Any:
    """Initialise the large networks among them, such as GoogLeNet, in less time."""
    with torch.no_grad():
        return tensor.uniform_(mean - std, mean + std)
