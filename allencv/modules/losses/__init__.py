from allencv.modules.losses.asymmetric_loss import AsymmetricLoss
from allencv.modules.losses.binary_cross_entropy_loss import BinaryCrossEntropyLoss
from allencv.modules.losses.classification_loss import ClassificationLoss, image_weights
from allencv.modules.losses.cross_entropy_loss import CrossEntropyLoss
from allencv.modules.losses.focal_loss import FocalLoss
from allencv.modules.losses.jsd_loss import JsdLoss

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossEntropyLoss",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "JsdLoss",
    "image_weights",
]
