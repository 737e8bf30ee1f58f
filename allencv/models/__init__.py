# Importing the trainer registers it, so that a config can name it wherever it can name a model.
from allencv import training  # noqa: F401
from allencv.models.basic_classifier import BasicImageClassifier

__all__ = ["BasicImageClassifier"]
