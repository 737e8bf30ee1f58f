"""List the images for a command from files, folders, patterns and tables."""

import glob
import os
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from allencv.runtime.errors import InputError
from allencv.runtime.garbage import paused_collector
from allencv.runtime.images import IMAGE_SUFFIXES, is_image
from allencv.runtime.path_tables import TABLES, paths_in

STANDARD_INPUT = "-"
FOLDERS_OF_OTHER_PROGRAMS = frozenset(
    {
        "@eadir",  # Synology: thumbnails
        "#recycle",
        "@recycle",
        "@recently-snapshot",
        "$recycle.bin",
        "__macosx",
        "system volume information",
        "lost+found",
        ".ipynb_checkpoints",
    }
)
"""The names, in lower case, of folders that other programs create among images."""


class ImageFile(NamedTuple):
    """
    An image: its name as the user gives it, the path of its file, and the bytes if they are not in
    a file of their own.
    """

    name: str
    file: str
    content: Optional[bytes] = None


class ImageFiles(NamedTuple):
    """
    The images, each once; the number named again; and skipped files that are not images.
    """

    images: List[ImageFile]
    repeated: int
    others: List[str]


def list_images(paths: Sequence[str], column: str) -> ImageFiles:
    """
    List the images that `paths` name, in order, each at its first mention. A path is

    * a table (.csv, .tsv, .jsonl, .ndjson, .parquet, .pq) with paths in `column`, relative to the
      table's folder, or a .txt with a path in each line. These paths are the images' names;
    * any other file, image or not;
    * a folder: the images in it, sorted, then those in the folders below; hidden ones are skipped;
    * a pattern (`*`, `?`, `[...]`, and `**` for folders of any depth): its matches, sorted;
    * `-`: the paths in the lines of standard input.

    # Raises

    `InputError` if a path gives no image, a table cannot be read, or two images have the same name.
    """
    found: Dict[str, ImageFile] = {}
    named: Dict[str, str] = {}
    repeated = 0
    others: List[str] = []
    with paused_collector():
        for path in paths:
            is_empty = True
            for image, file in _listed(path, column, others):
                is_empty = False
                if named.setdefault(image.name, file) != file:
                    raise InputError(
                        f"'{image.name}' is the name of {named[image.name]} and of {file}; "
                        "expected different names (classify one table at a time)"
                    )
                repeated += found.setdefault(file, image) is not image
            if is_empty:
                raise InputError(
                    f"'{path}' gives no image; expected a file, a folder with images, a pattern in "
                    "quotes, or a table of paths"
                )
    return ImageFiles(list(found.values()), repeated, others)


def is_table(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in TABLES


def _listed(path: str, column: str, others: List[str]) -> Iterator[Tuple[ImageFile, str]]:
    """Yield each image at a path, and the absolute path of its file."""
    if path == STANDARD_INPUT:
        for line in map(os.fsdecode, sys.stdin.buffer):
            if line.strip():
                yield _named(line.rstrip("\r\n"))
    elif os.path.isdir(path):
        yield from _in_folder(path, os.path.abspath(path), (), others)
    elif os.path.lexists(path) and is_table(path):
        folder = os.path.dirname(path)
        for name in paths_in(path, column):
            file = os.path.join(folder, os.path.expanduser(name))
            yield ImageFile(name, file), os.path.abspath(file)
    elif os.path.lexists(path):
        yield _named(path)
    elif glob.has_magic(path):
        for match in sorted(glob.iglob(path, recursive=True)):
            yield from _listed(match, column, others)


def _named(path: str) -> Tuple[ImageFile, str]:
    return ImageFile(path, path), os.path.abspath(path)


def _in_folder(
    folder: str, absolute: str, above: Tuple[str, ...], others: List[str]
) -> Iterator[Tuple[ImageFile, str]]:
    """
    Yield the images in a folder of a million files, too: as few calls for each as possible, and
    none of the operating system.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"'{folder}' is a link to a folder that contains it; remove the link")
    files: Dict[str, bool] = {}
    folders: List[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] == ".":
                    continue
                try:
                    if entry.is_dir():
                        folders.append(entry.name)
                    else:
                        files[entry.name] = entry.is_file()
                except OSError:  # such as a link to itself: reading it says what is wrong
                    files[entry.name] = False
    except OSError as error:
        raise InputError(f"'{folder}' cannot be read: {error.strerror}") from None
    inside, absolute_inside = os.path.join(folder, ""), os.path.join(absolute, "")
    for name in sorted(files):
        path = inside + name
        # As is_image does, but quicker.
        is_named = name[name.rfind(".") :].lower() in IMAGE_SUFFIXES
        # What is no regular file may be a pipe, which may have no end, or a broken link.
        if (files[name] or not os.path.exists(path)) and (is_named or is_image(path)):
            yield ImageFile(path, path), absolute_inside + name
        else:
            others.append(path)
    for name in sorted(folders):
        if name.lower() in FOLDERS_OF_OTHER_PROGRAMS:
            others.append(inside + name)
        else:
            yield from _in_folder(inside + name, absolute_inside + name, (*above, real), others)
