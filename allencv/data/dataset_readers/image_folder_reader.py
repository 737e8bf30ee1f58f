import logging
import os
import re
from difflib import get_close_matches
from fnmatch import translate
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

import fsspec
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.data import remote
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.messages import KEYS, some
from allencv.data.dataset_readers.splits import ImageSplit
from allencv.runtime.image_files import FOLDERS_OF_OTHER_PROGRAMS
from allencv.runtime.images import READ_SUFFIXES, is_image
from allencv.runtime.unidentified_files import NEEDS_BY_SUFFIX

logger = logging.getLogger(__name__)


@DatasetReader.register("image_classification_directory")
@DatasetReader.register("image_folder")
class ImageFolderReader(ImageDatasetReader):
    """
    Reads a folder with one subfolder of images per class, whose name is the label:
    `cats_and_dogs/train/cat/001.jpg`. Classes and files are sorted.

    Files count by content: a file without an image suffix is opened to see if it is an image.
    Hidden files are skipped. A warning names everything else that is not used: files beside the
    class folders, files that are not images, classes without images, and folders of other programs,
    such as `@eaDir`.

    Registered as a `DatasetReader` with the names "image_folder" and
    "image_classification_directory".

    # Parameters

    recursive : `bool`, optional (default = `False`)
        Whether the images in subfolders of a class folder also belong to the class.
    labelled : `bool`, optional (default = `True`)
        If false, the images are in the folder itself (with `recursive` also in its subfolders) and
        have no label.
    label_pattern : `str`, optional (default = `None`)
        A regular expression with one group, searched for in the path of each image relative to the
        root. The text of the group is the label; the images are in the root and its subfolders of
        any depth. `"([^/]+)_[0-9]+\\.jpg$"` gives `great_pyrenees_12.jpg` the label
        `great_pyrenees`.
    include : `List[str]`, optional (default = `None`)
        Use only images whose path relative to the root, with `/` between its parts, matches one of
        these patterns: `*` is any text (also `/`), `?` any character and `[abc]` one of these, as
        in Python's `fnmatch`; case matters. `"*.png"`, `"cat/*"`.
    exclude : `List[str]`, optional (default = `None`)
        Leave out images whose path matches one of these patterns.
    split : `ImageSplit`, optional (default = `None`)
        The part of the images to read.
    transforms, color_mode, value_range, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when reading, if the folder does not exist (existing ones are listed) or
    has no images, or `label_pattern` finds nothing in the path of an image.
    """

    def __init__(
        self,
        recursive: bool = False,
        labelled: bool = True,
        label_pattern: Optional[str] = None,
        include: Optional[List[str]] = None,
        exclude: Optional[List[str]] = None,
        split: Optional[ImageSplit] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for key, patterns in (("include", include), ("exclude", exclude)):
            if isinstance(patterns, str) or patterns == []:
                raise ConfigurationError(
                    f"dataset_reader.{key} is {patterns!r}; expected a list of patterns"
                )
        if label_pattern is not None and not labelled:
            raise ConfigurationError(
                f"dataset_reader.label_pattern is {label_pattern!r} and labelled is false; "
                "expected one of them"
            )
        self.recursive = recursive or label_pattern is not None
        self.labelled = labelled
        self.label_pattern = None if label_pattern is None else _compiled(label_pattern)
        self.include = include
        self.exclude = exclude
        self.split = split
        self._included = re.compile("|".join(map(translate, include or ["*"])))
        self._excluded = re.compile("|".join(map(translate, exclude or [])) or "(?!)")

    def read_samples(self, file_path: Any) -> List[Sample]:
        root = _root(remote.expand(file_path))
        samples: List[Sample] = []
        has_classes = self.labelled and self.label_pattern is None
        # Otherwise the root itself is the only class folder.
        at_root = _list(root) if has_classes else Entries([root], [], [])
        junk, unread, no_images, empty = list(at_root.junk), [], [], []
        left_out = 0
        for folder in at_root.folders:
            found = _files(folder, self.recursive)
            wanted = self._wanted(found.files, root)
            images = [file for file in wanted if is_image(file, remote.open_file)]
            label = os.path.basename(folder) if has_classes else None
            samples += [Sample(remote.image_source(image), label) for image in images]
            unread += found.folders
            junk += found.junk
            no_images += sorted(set(wanted) - set(images))
            empty += [] if images or len(wanted) < len(found.files) else [folder]
            left_out += len(found.files) - len(wanted)
        _warn_of_unread(root, samples)
        for what, paths in {
            "files beside the class folders": self._wanted(at_root.files, root),
            "folders of other programs": junk,
            f'without "recursive": true folders inside of {_folder(has_classes)}': unread,
            "files that are not images": no_images,
            "class folders without an image": empty if has_classes else [],
        }.items():
            if paths:
                names = [remote.relative(path, root) for path in paths]
                logger.warning("%s: %s are not used (%d): %s", root, what, len(paths), some(names))
        if left_out:
            logger.info("%s: include and exclude leave out %d files", root, left_out)
        if not samples:
            raise ConfigurationError(self._no_images(root, left_out))
        names = [remote.relative(str(sample.image), root) for sample in samples]
        if self.label_pattern is not None:
            labels = _found_labels(self.label_pattern, names, root)
            samples = [sample._replace(label=label) for sample, label in zip(samples, labels)]
        if self.split is None or not self.split.divides(file_path):
            return samples
        return self.split.select(samples, names, root)

    def _wanted(self, files: List[str], root: str) -> List[str]:
        """Return the files that `include` and `exclude` keep."""
        if self.include is None and self.exclude is None:
            return files
        names = [remote.relative(file, root) for file in files]
        return [
            file
            for file, name in zip(files, names)
            if self._included.match(name) and not self._excluded.match(name)
        ]

    def _no_images(self, root: str, left_out: int) -> str:
        expected = "images in it"
        if self.labelled and self.label_pattern is None:
            example = remote.join(root, os.path.join("cat", "001.jpg"))
            expected = f"a folder of images for each class, such as '{example}'"
        folders, files, _ = _list(root)
        names = sorted(os.path.basename(path) for path in folders + files)
        patterns = f"; include and exclude leave out {left_out} files" if left_out else ""
        return (
            f"no images in '{root}' ({KEYS}): expected {expected}; it holds {some(names)}{patterns}"
        )


class Entries(NamedTuple):
    """The content of a folder, sorted by name, without hidden files and folders."""

    folders: List[str]
    files: List[str]
    junk: List[str]
    """Folders made by other programs, which are not read."""


def _folder(has_classes: bool) -> str:
    return "class folders" if has_classes else "the folder"


def _compiled(label_pattern: str) -> "re.Pattern[str]":
    try:
        pattern = re.compile(label_pattern)
    except re.error as error:
        raise ConfigurationError(
            f"dataset_reader.label_pattern is {label_pattern!r}; expected a regular expression: "
            f"{error}"
        ) from None
    if pattern.groups != 1:
        raise ConfigurationError(
            f"dataset_reader.label_pattern is {label_pattern!r}, with {pattern.groups} groups; "
            "expected one, in parentheses, around the label"
        )
    return pattern


def _found_labels(pattern: "re.Pattern[str]", names: Iterable[str], root: str) -> List[str]:
    matches = {name: pattern.search(name.replace(os.sep, "/")) for name in names}
    without = [name for name, match in matches.items() if match is None or not match[1]]
    if without:
        raise ConfigurationError(
            f"{root}: dataset_reader.label_pattern {pattern.pattern!r} finds no label in "
            f"{len(without)} of {len(matches)} paths: {some(without)}; expected one in each "
            "(exclude leaves images out)"
        )
    return [match[1] for match in matches.values() if match is not None]


def _warn_of_unread(root: str, samples: List[Sample]) -> None:
    """Warn about images that need another package, before the first of them is decoded."""
    unread: Dict[str, List[str]] = {}
    for sample in samples:
        suffix = os.path.splitext(str(sample.image))[1].lower()
        if suffix in NEEDS_BY_SUFFIX and suffix not in READ_SUFFIXES:
            name = remote.relative(str(sample.image), root)
            unread.setdefault(NEEDS_BY_SUFFIX[suffix], []).append(name)
    for reason, names in unread.items():
        message = "%s: images that cannot be read (%d): %s. Each is %s"
        logger.warning(message, root, len(names), some(names), reason)


def _root(path: str) -> str:
    """Return the folder at a path or URL, as its files are named. Raises if it does not exist."""
    if not path:
        raise ConfigurationError(f"'' ({KEYS}) is empty; expected a folder")
    if not remote.is_remote(path):
        if not os.path.isdir(path):
            raise ConfigurationError(_no_folder(Path(path)))
        return str(Path(path))
    try:
        file_system, name = fsspec.url_to_fs(path)
        is_folder = file_system.isdir(name)
    except Exception as error:  # each file system has its own errors
        raise ConfigurationError(f"'{path}' ({KEYS}) cannot be read: {error}") from error
    if not is_folder:
        raise ConfigurationError(f"'{path}' ({KEYS}) does not exist; expected a folder")
    return str(file_system.unstrip_protocol(name)).rstrip("/")


def _list(folder: str) -> Entries:
    if remote.is_remote(folder):
        file_system, name = fsspec.url_to_fs(folder)
        found = [
            (file_system.unstrip_protocol(entry["name"]).rstrip("/"), entry["type"] == "directory")
            for entry in file_system.ls(name, detail=True)
        ]
    else:
        try:
            with os.scandir(folder) as entries:
                found = [(entry.path, entry.is_dir()) for entry in entries]
        except OSError as error:
            raise ConfigurationError(f"'{folder}' ({KEYS}) cannot be read: {error}") from error
    listed = Entries([], [], [])
    for path, is_folder in sorted(found):
        name = os.path.basename(path)
        if is_folder and name.lower() in FOLDERS_OF_OTHER_PROGRAMS:
            listed.junk.append(path)
        elif name[0] != ".":
            (listed.folders if is_folder else listed.files).append(path)
    return listed


def _files(folder: str, recursive: bool) -> Entries:
    """Return the files in a folder, and the folders in it that are not read."""
    folders, files, junk = _list(folder)
    if not recursive:
        return Entries(folders, files, junk)
    for subfolder in folders:
        if os.path.islink(subfolder) and _is_in(folder, subfolder):
            raise ConfigurationError(
                f"'{subfolder}' ({KEYS}) is a link to a folder that contains it; expected no loop "
                "of links"
            )
        below = _files(subfolder, recursive)
        files += below.files
        junk += below.junk
    return Entries([], files, junk)


def _is_in(folder: str, other: str) -> bool:
    return Path(folder).resolve().is_relative_to(Path(other).resolve())


def _no_folder(root: Path) -> str:
    parent = next(folder for folder in root.absolute().parents if folder.is_dir())
    wanted = root.absolute().relative_to(parent).parts[0]
    names = [os.path.basename(folder) for folder in _list(str(parent)).folders]
    nearest = [name for name in names if wanted.startswith(name) or name.startswith(wanted)]
    nearest = nearest or get_close_matches(wanted, names, n=1)
    is_file = "is a file; expected a folder" if root.exists() else "does not exist"
    hint = f"; did you mean '{parent / nearest[0]}'?" if nearest else ""
    return f"'{root}' ({KEYS}) {is_file}: '{parent}' holds the folders {some(names)}{hint}"
