# The readers hold fields and transforms; importing these here makes one --include-package enough.
from allencv.data import fields, transforms  # noqa: F401
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader
from allencv.data.dataset_readers.image_folder_reader import ImageFolderReader

__all__ = ["ImageDatasetReader", "ImageFolderReader"]
