"""Transforms of a whole batch and its labels, which the model applies when it is trained."""

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform, soft_labels
from allencv.data.transforms.batch_transforms.cutmix import CutMix
from allencv.data.transforms.batch_transforms.mixup import MixUp
from allencv.data.transforms.batch_transforms.random_choice import RandomChoice

__all__ = ["BatchTransform", "CutMix", "MixUp", "RandomChoice", "soft_labels"]
