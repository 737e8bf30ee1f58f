import logging
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Iterator, List

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.runtime.images import FORMATS

logger = logging.getLogger(__name__)

SUFFIXES = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}


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

    def read_samples(self, file_path: Any) -> Iterator[Sample]:
        root = Path(file_path)
        if not root.is_dir():
            raise ConfigurationError(_missing_folder(root))
        class_folders, stray = _list(root)
        if stray:
            _warn(f"{len(stray)} files beside the class folders of {root} are not used", stray)
        counts: Dict[str, int] = {}
        for folder in class_folders:
            images = self._images(folder)
            counts[folder.name] = len(images)
            yield from (Sample(str(path), folder.name) for path in images)
        if not any(counts.values()):
            raise ConfigurationError(
                f"no images in {root}: expected a folder of images for each class in it, such as "
                f"{root / 'cat' / '001.jpg'}; it holds {_holdings(root)}"
            )
        empty = [name for name, count in counts.items() if not count]
        if empty:
            _warn(f"{len(empty)} class folders of {root} hold no image", empty)

    def _images(self, folder: Path) -> List[Path]:
        folders, files = _list(folder)
        images = [path for path in files if path.suffix.lower() in SUFFIXES or _is_image(path)]
        if len(images) < len(files):
            stray = sorted(set(files) - set(images))
            _warn(f"{len(stray)} files in {folder} are no images and are not used", stray)
        if not self.recursive:
            if folders:
                _warn(f"folders in {folder} are not read; 'recursive': true reads them", folders)
            return images
        for subfolder in folders:
            images.extend(self._images(subfolder))
        return images


def _list(folder: Path) -> "tuple[List[Path], List[Path]]":
    """The folders and the files in a folder, each sorted by name, without the hidden ones."""
    with os.scandir(folder) as entries:
        visible = sorted((entry for entry in entries if entry.name[0] != "."), key=lambda e: e.name)
    folders = [Path(entry.path) for entry in visible if entry.is_dir()]
    return folders, [Path(entry.path) for entry in visible if not entry.is_dir()]


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # whatever pillow finds wrong with it, it is none that could be used
        return False


def _warn(message: str, items: List[Any]) -> None:
    shown = ", ".join(str(getattr(item, "name", item)) for item in items[:5])
    logger.warning("%s: %s%s", message, shown, ", ..." if len(items) > 5 else "")


def _holdings(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    if not names:
        return "nothing"
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _missing_folder(root: Path) -> str:
    parent = next(folder for folder in root.absolute().parents if folder.is_dir())
    message = (
        f"no folder '{root}' (train_data_path, validation_data_path or test_data_path): "
        f"'{parent}' holds {_holdings(parent)}"
    )
    wanted = root.absolute().relative_to(parent).parts[0]
    nearest = get_close_matches(wanted, os.listdir(parent), n=1)
    return f"{message}; did you mean '{parent / nearest[0]}'?" if nearest else message
