# Importing the trainer registers it, so that a config can name it wherever it can name a model.
from allencv import training  # noqa: F401
from allencv.models.basic_classifier import BasicImageClassifier
from allencv.models.distillation import Distillation
from allencv.models.from_archive import ModelFromArchive
from allencv.models.image_classifier import ImageClassifier
from allencv.models.multilabel_classifier import MultiLabelImageClassifier
from allencv.models.start_from import StartFrom

__all__ = [
    "BasicImageClassifier",
    "Distillation",
    "ImageClassifier",
    "ModelFromArchive",
    "MultiLabelImageClassifier",
    "StartFrom",
]
