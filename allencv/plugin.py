"""
Registers every part. `.allennlp_plugins` names this module, so that `allennlp train` knows our
parts without `--include-package` where that file lies in the working directory.
"""

from allencv import data, models, modules, predictors, training
from allencv.modules import im2im_encoders, im2vec_encoders, losses

__all__ = [
    "data",
    "im2im_encoders",
    "im2vec_encoders",
    "losses",
    "models",
    "modules",
    "predictors",
    "training",
]
