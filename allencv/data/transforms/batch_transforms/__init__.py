"""Transforms of a whole batch and its labels, which the model applies during training."""

from allencv.common.label_shares import as_shares
from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform
from allencv.data.transforms.batch_transforms.cutmix import CutMix
from allencv.data.transforms.batch_transforms.mixup import MixUp
from allencv.data.transforms.batch_transforms.random_choice import RandomChoice

__all__ = ["BatchTransform", "CutMix", "MixUp", "RandomChoice", "as_shares"]
