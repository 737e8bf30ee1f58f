"""Images as the samples of a shard: their names, their bytes and their labels."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.dataset_readers.sample_files import RawLabel
from allencv.data.dataset_readers.shard_index import IndexedShard
from allencv.data.dataset_readers.shards import ShardFile
from allencv.data.remote import RemoteImage, image_source, is_remote
from allencv.runtime import ImageError
from allencv.runtime.errors import InputError
from allencv.runtime.images import FORMATS, is_named_as_image
from allencv.runtime.regular_files import open_regular
from allencv.runtime.whole_files import whole_file

UNKNOWN_SIZE = 100_000
"""The number of bytes that an image counts if only reading it would tell."""
BLOCK = 512
IN_PNG = {"1", "L", "LA", "I;16", "P", "RGB", "RGBA"}


class PackedSamples:
    """
    The samples of a dataset under the names that they have in shards.

    The name is the path of the image below the folder of all images, without its suffix and with
    `_` for dots, because a name ends at its first dot. Images that are not files are numbered.

    # Parameters

    samples : `Sequence[Sample]`, required
    numbered : `bool`, optional (default = `False`)
        Whether to number all images.

    # Raises

    `InputError` if two images would have the same name.
    """

    def __init__(self, samples: Sequence[Sample], numbered: bool = False) -> None:
        self.samples = samples
        paths = [None if numbered else _path(sample.image) for sample in samples]
        known = [path for path in paths if path is not None]
        # Not commonpath, which would change URLs.
        root = os.path.commonprefix(known).rpartition("/")[0]  # noqa: RUF071
        self.keys = [
            f"{index:08d}" if path is None else _key(path[len(root) :])
            for index, path in enumerate(paths)
        ]
        first: Dict[str, int] = {}
        for index, key in enumerate(self.keys):
            if first.setdefault(key, index) != index:
                raise InputError(
                    f"'{paths[first[key]]}' and '{paths[index]}' would both be the sample '{key}' "
                    "of the shards; expected other file names, or --names numbers"
                )

    def label(self, index: int) -> Optional[str]:
        """Return the content of the label file, if there is one."""
        label = self._label(index)
        return None if label is None else json.dumps({"label": label}, ensure_ascii=False)

    def size_and_time(self, index: int) -> Tuple[int, int]:
        """
        Return the number of bytes that a sample takes in a shard, and when its image was modified,
        in nanoseconds: 0 if it is not a file here. Raise `OSError`.
        """
        image = self.samples[index].image
        size, time = UNKNOWN_SIZE, 0
        if isinstance(image, (str, os.PathLike)) and not is_remote(os.fspath(image)):
            status = os.stat(image)
            size, time = status.st_size, status.st_mtime_ns
        elif isinstance(image, bytes):
            size = len(image)
        elif isinstance(image, ShardFile):
            size = image.size if image.data is None else len(image.data)
            time = os.stat(image.shard).st_mtime_ns if image.data is None else 0
        label = self.label(index)
        name = f"{self.keys[index]}.json"  # as long as that of the image, or nearly
        of_label = 0 if label is None else _in_tar(name, len(label.encode()))
        return _in_tar(name, size) + of_label, time

    def are(self, images: Sequence[int], shard: IndexedShard) -> bool:
        """Return whether a shard has these images in order, by their names and labels."""
        return len(images) == len(shard.files) and all(
            file.startswith(f"{self.keys[image]}.") and shard.labels[code] == self._label(image)
            for image, file, code in zip(images, shard.files, shard.codes)
        )

    def _label(self, index: int) -> RawLabel:
        _, label, labels, _ = self.samples[index]
        return label if labels is None else tuple(labels)

    def files(self, index: int) -> Iterator[Tuple[str, bytes]]:
        """Yield the name and the content of each file of a sample. Raise `ImageError`."""
        key, image = self.keys[index], self.samples[index].image
        data = content_of(image, key)
        yield f"{key}.{_extension(image, data, key)}", data
        label = self.label(index)
        if label is not None:
            yield f"{key}.json", label.encode()


def write_shard(path: str, files: Iterable[Tuple[str, bytes]]) -> None:
    """
    Write a tar file with these files, the same bytes on every machine, as a whole or not at all.

    # Raises

    `OSError` with `path` as its `filename`, if the file cannot be written.
    """
    with whole_file(path) as temporary, tarfile.open(temporary, "w") as tar:
        for name, data in files:
            member = tarfile.TarInfo(name)  # without times and owners
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def content_of(image: Any, name: str) -> bytes:
    """
    Return the bytes of an image file. Pixels become a PNG or TIFF file, without loss.

    # Raises

    `ImageError` with the name of the image, if it cannot be read.
    """
    if isinstance(image, bytes):
        return image
    shown = _path(image) or name
    try:
        if isinstance(image, (str, os.PathLike)):
            source = image_source(os.fspath(image))
            if isinstance(source, str):
                with open_regular(source) as file:
                    return file.read()
            image = source
        if callable(image):
            return content_of(image(), name)
        return _encoded(image)
    except OSError as error:
        raise ImageError(f"{shown}: {error.strerror or error}") from error
    except ImageError as error:
        raise ImageError(f"{shown}: {error}") from error


def _encoded(image: Union[Image.Image, np.ndarray]) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, "PNG" if image.mode in IN_PNG else "TIFF")
    return file.getvalue()


def _extension(image: Any, data: bytes, name: str) -> str:
    """Return the suffix of the file or, if it has none of an image, that of its format."""
    path = _path(image) or ""
    if is_named_as_image(path):
        return Path(path).suffix[1:].lower()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            kind = str(opened.format)
    except Exception as error:  # each format has its own errors
        raise ImageError(
            f"{path or name}: neither its name nor its content is that of an image"
        ) from error
    names = [suffix[1:] for suffix, name in Image.registered_extensions().items() if name == kind]
    usual = kind.lower().replace("jpeg", "jpg")
    return usual if usual in names else names[0]


def _path(image: Any) -> Optional[str]:
    """Return the path of an image that is a file."""
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        return path if is_remote(path) else os.path.normpath(path)
    return str(image) if isinstance(image, (RemoteImage, ShardFile)) else None


def _key(path: str) -> str:
    folder, slash, file = path.lstrip("/").rpartition("/")
    stem = os.path.splitext(file)[0] if is_named_as_image(file) else file
    return folder + slash + stem.replace(".", "_")


def _in_tar(name: str, size: int) -> int:
    is_short = name.isascii() and len(name) <= tarfile.LENGTH_NAME
    header = BLOCK if is_short else len(tarfile.TarInfo(name).tobuf())
    return header + -(-size // BLOCK) * BLOCK


def in_shards(
    order: Sequence[int],
    sizes: Sequence[int],
    max_images: Optional[int],
    max_bytes: Optional[int],
) -> List[List[int]]:
    """Divide images into shards of at most so many images or bytes, or of one image."""
    shards: List[List[int]] = [[]]
    filled = 0
    for index in order:
        is_full = len(shards[-1]) == max_images or (
            max_bytes is not None and filled + sizes[index] > max_bytes
        )
        if is_full and shards[-1]:
            shards.append([])
            filled = 0
        shards[-1].append(index)
        filled += sizes[index]
    return shards
