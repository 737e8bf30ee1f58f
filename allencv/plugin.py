"""
Register every part, and make `allennlp train` check its config first, as `check-config` does.
`.allennlp_plugins` names this module: with that file in the working directory, `allennlp train`
knows our parts without `--include-package`.
"""

from allencv import data, models, modules, predictors, training
from allencv.catalogue import check_config
from allencv.certainty import model_calibrator
from allencv.features import linear_head_trainer
from allencv.modules import im2im_encoders, im2vec_encoders, initializers, losses
from allencv.training.train_model import config_checks

config_checks.append(check_config)

__all__ = [
    "data",
    "im2im_encoders",
    "im2vec_encoders",
    "initializers",
    "linear_head_trainer",
    "losses",
    "model_calibrator",
    "models",
    "modules",
    "predictors",
    "training",
]
