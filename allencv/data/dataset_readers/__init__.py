# The readers hold fields and transforms; importing these here makes one --include-package enough.
from allencv.data import fields, transforms  # noqa: F401
from allencv.data.dataset_readers.concat_reader import ConcatReader
from allencv.data.dataset_readers.corrected_reader import CorrectedReader
from allencv.data.dataset_readers.huggingface_reader import HuggingFaceReader
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.dataset_readers.image_folder_reader import ImageFolderReader
from allencv.data.dataset_readers.image_list_reader import ImageListReader
from allencv.data.dataset_readers.image_table_reader import ImageTableReader
from allencv.data.dataset_readers.splits import ImageSplit
from allencv.data.dataset_readers.torchvision_dataset_reader import TorchvisionDatasetReader
from allencv.data.dataset_readers.webdataset_reader import WebDatasetReader

__all__ = [
    "ConcatReader",
    "CorrectedReader",
    "HuggingFaceReader",
    "ImageDatasetReader",
    "ImageFolderReader",
    "ImageListReader",
    "ImageSplit",
    "ImageTableReader",
    "TorchvisionDatasetReader",
    "WebDatasetReader",
]
