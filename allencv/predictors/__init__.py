# Importing these registers all that an archive may name, also for AllenNLP's Predictor.from_path.
from allencv import data, models, training  # noqa: F401
from allencv.modules import im2im_encoders, im2vec_encoders, losses  # noqa: F401
from allencv.predictors.image_classifier_predictor import ImageClassifierPredictor

__all__ = ["ImageClassifierPredictor"]
