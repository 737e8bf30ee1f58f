"""The content of a folder: its folders, its tables, and whether it has images."""

import os
from typing import Dict, List

from allencv.data.dataset_readers.files import suffixes
from allencv.fitting.options import FolderOptions
from allencv.runtime.image_files import FOLDERS_OF_OTHER_PROGRAMS
from allencv.runtime.images import is_image
from allencv.runtime.path_tables import FORMATS

DEPTH = 6
"""How many levels of folders are searched for images: links may form a cycle."""


class Folder:
    """The content of a folder, without hidden files and folders of other programs."""

    def __init__(self, path: str) -> None:
        self.path = path
        with os.scandir(path) as entries:
            found = sorted(
                (e.name, e.is_dir()) for e in entries if e.name[0] != "." and not _is_circle(e)
            )
        self.folders = {
            name: os.path.join(path, name)
            for name, is_folder in found
            if is_folder and name.lower() not in FOLDERS_OF_OTHER_PROGRAMS
        }
        self._files = [os.path.join(path, name) for name, is_folder in found if not is_folder]
        self.tables = [file for file in self._files if suffixes(file)[0] in FORMATS]

    def has_images(self) -> bool:
        return any(is_image(file) for file in self._files if file not in self.tables)

    def has_images_below(self, depth: int = DEPTH) -> bool:
        """Return whether it has images, at any level."""
        return self.has_images() or (
            depth > 0
            and any(Folder(path).has_images_below(depth - 1) for path in self.folders.values())
        )

    def classes(self) -> Dict[str, "Folder"]:
        """Return the folders in this one that have images, at any level."""
        folders = {name: Folder(path) for name, path in self.folders.items()}
        return {name: folder for name, folder in folders.items() if folder.has_images_below()}


def _is_circle(entry: "os.DirEntry[str]") -> bool:
    """Return whether an entry is a link to a folder that contains it."""
    if not entry.is_symlink():
        return False
    target = os.path.join(os.path.realpath(entry.path), "")
    return os.path.join(os.path.realpath(os.path.dirname(entry.path)), "").startswith(target)


def innermost(path: str) -> Folder:
    """Return the folder itself, or follow the only folder in it that has images."""
    folder = Folder(path)
    while not folder.tables and not folder.has_images():
        inner = list(folder.classes().values())
        if len(inner) != 1 or inner[0].has_images():
            break
        (folder,) = inner
    return folder


def beside(outer: str, inner: str) -> List[str]:
    """Return the folders beside the path from outer to inner."""
    found: List[str] = []
    while inner != outer:
        parent, name = os.path.split(inner)
        found += [path for other, path in Folder(parent).folders.items() if other != name]
        inner = parent
    return found


def is_split(path: str, options: FolderOptions) -> bool:
    """Return whether a folder, unlike that of a class, has classes or a table."""
    train = innermost(path)
    has_labels = options.label_pattern is not None and train.has_images()
    return bool(has_labels or train.tables or train.classes())
