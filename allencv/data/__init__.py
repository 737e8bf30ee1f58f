from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.fields import ImageField
from allencv.data.label_vocabulary import LabelVocabulary
from allencv.data.transforms import ImageTransform

__all__ = [
    "ImageDataLoader",
    "ImageDatasetReader",
    "ImageField",
    "ImageTransform",
    "LabelVocabulary",
]
