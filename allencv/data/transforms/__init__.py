"""
Transforms of one image. torchvision's have torchvision's names here:
`from allencv.data.transforms import RandomResizedCrop`.
"""

from typing import TYPE_CHECKING, Any

from allencv.data.transforms.eval_transform import EvalTransform
from allencv.data.transforms.image_transform import ImageTransform
from allencv.data.transforms.normalize import Normalize
from allencv.data.transforms.random_source import random_source
from allencv.data.transforms.resize import Resize
from allencv.data.transforms.torchvision_transform import TRANSFORMS, TorchvisionTransform

globals().update(TRANSFORMS)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...  # the names in TRANSFORMS


__all__ = [
    "EvalTransform",
    "ImageTransform",
    "Normalize",
    "Resize",
    "TorchvisionTransform",
    "random_source",
    *TRANSFORMS,
]
