"""
Transforms of one image. torchvision's have torchvision's names here:
`from allencv.data.transforms import RandomResizedCrop`.
"""

from typing import Type

from allencv.data.transforms import torchvision_transform
from allencv.data.transforms.alternating_flip import AlternatingFlip
from allencv.data.transforms.batch_transforms import BatchTransform
from allencv.data.transforms.color_jitter import ColorJitter
from allencv.data.transforms.cutout import Cutout
from allencv.data.transforms.eval_transform import EvalTransform
from allencv.data.transforms.grid_mask import GridMask
from allencv.data.transforms.hide_and_seek import HideAndSeek
from allencv.data.transforms.image_transform import ImageTransform
from allencv.data.transforms.normalize import Normalize
from allencv.data.transforms.random_crop import RandomCrop
from allencv.data.transforms.random_erasing import RandomErasing
from allencv.data.transforms.random_resized_crop import RandomResizedCrop
from allencv.data.transforms.random_source import random_source
from allencv.data.transforms.resize import Resize
from allencv.data.transforms.torchvision_transform import TRANSFORMS, TorchvisionTransform
from allencv.data.transforms.train_light import TrainLight
from allencv.data.transforms.train_strong import TrainStrong

__all__ = [
    "AlternatingFlip",
    "BatchTransform",
    "ColorJitter",
    "Cutout",
    "EvalTransform",
    "GridMask",
    "HideAndSeek",
    "ImageTransform",
    "Normalize",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "Resize",
    "TorchvisionTransform",
    "TrainLight",
    "TrainStrong",
    "random_source",
    *TRANSFORMS,
]


def __getattr__(name: str) -> Type[TorchvisionTransform]:
    return getattr(torchvision_transform, name)
