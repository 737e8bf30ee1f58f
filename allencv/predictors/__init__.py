from allencv.predictors.image_classifier_predictor import ImageClassifierPredictor

__all__ = ["ImageClassifierPredictor"]
