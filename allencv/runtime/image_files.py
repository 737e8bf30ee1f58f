"""List the images for a command from files, folders, patterns and tables."""

import glob
import os
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from allencv.runtime.errors import InputError
from allencv.runtime.images import is_image
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
    for path in paths:
        images = list(_listed(path, column, others))
        if not images:
            raise InputError(
                f"'{path}' gives no image; expected a file, a folder with images, a pattern in "
                "quotes, or a table of paths"
            )
        for image in images:
            file = os.path.abspath(image.file)
            if named.setdefault(image.name, file) != file:
                raise InputError(
                    f"'{image.name}' is the name of {named[image.name]} and of {file}; expected "
                    "different names (classify one table at a time)"
                )
            repeated += file in found
            found.setdefault(file, image)
    return ImageFiles(list(found.values()), repeated, others)


def is_table(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in TABLES


def _listed(path: str, column: str, others: List[str]) -> Iterator[ImageFile]:
    if path == STANDARD_INPUT:
        for line in map(os.fsdecode, sys.stdin.buffer):
            if line.strip():
                name = line.rstrip("\r\n")
                yield ImageFile(name, name)
    elif os.path.isdir(path):
        yield from _in_folder(path, (), others)
    elif os.path.lexists(path) and is_table(path):
        folder = os.path.dirname(path)
        for name in paths_in(path, column):
            yield ImageFile(name, os.path.join(folder, os.path.expanduser(name)))
    elif os.path.lexists(path):
        yield ImageFile(path, path)
    elif glob.has_magic(path):
        for match in sorted(glob.iglob(path, recursive=True)):
            yield from _listed(match, column, others)


def _in_folder(folder: str, above: Tuple[str, ...], others: List[str]) -> Iterator[ImageFile]:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"'{folder}' is a link to a folder that contains it; remove the link")
    try:
        with os.scandir(folder) as entries:
            visible = sorted(
                (entry.path, entry.is_dir()) for entry in entries if entry.name[0] != "."
            )
    except OSError as error:
        raise InputError(f"'{folder}' cannot be read: {error.strerror}") from None
    for path, is_folder in visible:
        if not is_folder and not _is_pipe(path) and is_image(path):
            yield ImageFile(path, path)
        elif not is_folder:
            others.append(path)
    for path, is_folder in visible:
        if is_folder:
            if os.path.basename(path).lower() in FOLDERS_OF_OTHER_PROGRAMS:
                others.append(path)
            else:
                yield from _in_folder(path, (*above, real), others)


def _is_pipe(path: str) -> bool:
    """Return whether a path is a pipe or a device, which may have no end."""
    return os.path.exists(path) and not os.path.isfile(path)
