import logging
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, List, Tuple, Union

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.runtime.images import FORMATS

logger = logging.getLogger(__name__)

SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
KEYS = "train_data_path, validation_data_path or test_data_path"


@DatasetReader.register("image_classification_directory")
@DatasetReader.register("image_folder")
class ImageFolderReader(ImageDatasetReader):
    """
    Reads a folder with one subfolder of images for each class, whose name is the label:
    `cats_and_dogs/train/cat/001.jpg`. Classes and files come in sorted order.

    Files are taken by their content: one with a suffix that is not an image's is opened to see
    whether it is an image all the same. Hidden files are passed over. What else is not used - files
    beside the class folders, files that are no images, classes without an image - is named in a
    warning.

    Registered as a `DatasetReader` with the names "image_folder" and
    "image_classification_directory".

    # Parameters

    recursive : `bool`, optional (default = `False`)
        Whether a class also has the images of the folders below its own.
    transforms, color_mode, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when read, if there is no such folder (saying which ones there are), or no
    image in it.
    """

    def __init__(self, recursive: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recursive = recursive

    def read_samples(self, file_path: Any) -> List[Sample]:
        root = Path(file_path).expanduser()
        if not root.is_dir():
            raise ConfigurationError(_no_folder(root))
        classes, beside = _list(root)
        samples: List[Sample] = []
        unread: List[str] = []
        no_images: List[str] = []
        empty: List[str] = []
        for folder in classes:
            files, folders = _files(folder, self.recursive)
            images = [file for file in files if _is_image(file)]
            samples += [Sample(image, os.path.basename(folder)) for image in images]
            unread += folders
            no_images += sorted(set(files) - set(images))
            empty += [] if images else [folder]
        for what, paths in {
            "files beside the class folders": beside,
            'without "recursive": true folders inside of class folders': unread,
            "files that are no images": no_images,
            "class folders without an image": empty,
        }.items():
            if paths:
                names = [os.path.relpath(path, root) for path in paths]
                logger.warning("%s: %s are not used (%d): %s", root, what, len(paths), _some(names))
        if not samples:
            raise ConfigurationError(
                f"no images in '{root}' ({KEYS}): expected a folder of images for each class, such "
                f"as '{root / 'cat' / '001.jpg'}'; it holds {_some(sorted(os.listdir(root)))}"
            )
        return samples


def _list(folder: Union[str, Path]) -> Tuple[List[str], List[str]]:
    """The folders and the files in a folder, each sorted by name, without the hidden ones."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda e: e.name)
    folders = [entry.path for entry in visible if entry.is_dir()]
    return folders, [entry.path for entry in visible if not entry.is_dir()]


def _files(folder: str, recursive: bool) -> Tuple[List[str], List[str]]:
    """The files in a folder, sorted, and the folders in it that have been left out."""
    folders, files = _list(folder)
    if not recursive:
        return files, folders
    for subfolder in folders:
        files += _files(subfolder, recursive)[0]
    return files, []


def _is_image(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in SUFFIXES:
        return True
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # whatever pillow finds wrong with it, it is none that could be used
        return False


def _some(names: List[str]) -> str:
    shown = ", ".join(names[:10]) or "nothing"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _no_folder(root: Path) -> str:
    parent = next(folder for folder in root.absolute().parents if folder.is_dir())
    wanted = root.absolute().relative_to(parent).parts[0]
    names = [os.path.basename(folder) for folder in _list(parent)[0]]
    nearest = [name for name in names if wanted.startswith(name) or name.startswith(wanted)]
    nearest = nearest or get_close_matches(wanted, names, n=1)
    is_file = "is a file; expected a folder" if root.exists() else "is not there"
    hint = f"; did you mean '{parent / nearest[0]}'?" if nearest else ""
    return f"'{root}' ({KEYS}) {is_file}: '{parent}' holds the folders {_some(names)}{hint}"
