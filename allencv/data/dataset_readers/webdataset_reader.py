import glob
import json
import logging
import os
import re
import tarfile
from collections import Counter
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Tuple, Union, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import fsspec
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Instance

from allencv.common.checks import not_one_of
from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.dataset_readers.image_folder_reader import SUFFIXES
from allencv.data.dataset_readers.listing import KEYS
from allencv.runtime import ImageError

logger = logging.getLogger(__name__)

ON_INCOMPLETE = ("raise", "skip")

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{},]*(?:,[^{},]*)+)\}")
"""`{000..009}`, or `{train,extra}`."""

FILE_NAME = re.compile(r"(?:\./)*((?:.*/)?[^./][^./]*)\.([^/]+)")
"""The key of a sample up to the first dot of the file's name, and the file's extension."""


class ShardFile:
    """A file in a shard: its bytes or, in a tar file that is here and not compressed, its place."""

    def __init__(
        self, shard: str, name: str, data: Optional[bytes] = None, start: int = 0, size: int = 0
    ) -> None:
        self.shard = shard
        self.name = name
        self.data = data
        self.start = start
        self.size = size

    def __call__(self) -> bytes:
        if self.data is not None:
            return self.data
        try:
            with open(self.shard, "rb") as file:
                file.seek(self.start)
                data = file.read(self.size)
        except OSError as error:
            raise ImageError(f"{self}: {error.strerror or error}") from error
        if len(data) < self.size:
            raise ImageError(f"{self}: the shard has become shorter since it was listed")
        return data

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


class IncompleteSample(ConfigurationError):
    """A sample of a shard lacks its image or its label."""


@DatasetReader.register("webdataset")
class WebDatasetReader(ImageDatasetReader):
    """
    Reads shards: tar files in which the files of a sample stand side by side and share their name
    up to the first dot, `000017.jpg` and `000017.cls`
    ([WebDataset](https://github.com/webdataset/webdataset)). Shards may be compressed (gzip, bzip2,
    xz), and may lie wherever [fsspec](https://filesystem-spec.readthedocs.io) reads: `https://`,
    `s3://`, `gs://`, `hf://`.

    What is to be read is a path with braces, `data/train-{000..146}.tar`, a glob, `data/*.tar`, or
    a list of these. The order is that of the braces and of the list, sorted for a glob, and within
    a shard that of the file.

    Shards are read from front to back, once each epoch. Of a plain tar file on this machine only
    the headers and the labels are read, and an image when it is decoded; elsewhere the bytes of an
    image are held until its batch is made.

    Registered as a `DatasetReader` with name "webdataset".

    # Parameters

    image_keys : `List[str]`, optional (default = `None`)
        The extensions of the image, the preferred first: `["left.png", "png"]`. `None` takes the
        first file of a sample whose extension is an image's.
    label_key : `str`, optional (default = `"cls"`)
        The extension of the file with the label: its text, such as "cat" or "3". A "json" holds it
        under `label_field`. `None` reads images without labels.
    label_field : `str`, optional (default = `"label"`)
        The key of the label in a JSON file. A list there makes several `labels`.
    classes : `Union[Dict[str, str], List[str]]`, optional (default = `None`)
        What the labels mean: the name of each label or, as a list, of each class index.
    on_incomplete : `str`, optional (default = `"raise"`)
        What to do about a sample without an image or a label: "raise" stops with its shard and
        key; "skip" leaves it out, logs it, and counts it in `samples_skipped`.
    streaming : `bool`, optional (default = `True`)
        Whether a data loader is to read along instead of listing all images first. A list, which
        can be shuffled as a whole, costs no memory for the images of plain tar files on this
        machine.
    transforms, color_mode, label_namespace, max_instances
        See `ImageDatasetReader`.

    # Raises

    `ConfigurationError` when read, if there are no such shards, or a sample is incomplete;
    `ImageError` for a shard that is damaged or has been cut short.
    """

    def __init__(
        self,
        image_keys: Optional[List[str]] = None,
        label_key: Optional[str] = "cls",
        label_field: str = "label",
        classes: Optional[Union[Dict[str, str], List[str]]] = None,
        on_incomplete: str = "raise",
        streaming: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_incomplete not in ON_INCOMPLETE:
            raise not_one_of("dataset_reader.on_incomplete", on_incomplete, ON_INCOMPLETE)
        self.image_keys = None if image_keys is None else [_extension(key) for key in image_keys]
        self.label_key = None if label_key is None else _extension(label_key)
        self.label_field = label_field
        # Both kinds as names by the text of a label.
        names = classes if isinstance(classes, dict) else dict(enumerate(classes or []))
        self.classes = {str(label): name for label, name in names.items()}
        self.on_incomplete = on_incomplete
        self.streaming = streaming
        self.samples_skipped = 0

    def shards(self, file_path: Any) -> List[str]:
        """The shards at `file_path`, of which each can be read alone, in order."""
        patterns = [file_path] if isinstance(file_path, (str, os.PathLike)) else file_path
        if not isinstance(patterns, (list, tuple)) or not patterns:
            raise ConfigurationError(
                f"{file_path!r} ({KEYS}); expected a path of shards, such as "
                "'data/train-{000..009}.tar' or 'data/*.tar', or a list of paths"
            )
        shards = [shard for pattern in patterns for shard in _shards(os.fspath(pattern))]
        shard, times = Counter(shards).most_common(1)[0]
        if times > 1:
            raise ConfigurationError(
                f"'{shard}' ({KEYS}) is named {times} times; expected each shard once"
            )
        return shards

    def read_samples(self, file_path: Any) -> Iterator[Sample]:
        return self.read_shard(file_path, 0, 1)

    def read_shard(self, file_path: Any, index: int, count: int) -> Iterator[Sample]:
        """
        The share of number `index` of `count` that read at the same time; together they read each
        sample once, and always in the same order.

        Each takes every `count`-th shard. If there are fewer shards than that, or with
        `max_instances`, all read all shards, and each takes every `count`-th sample.
        """
        shards = self.shards(file_path)
        if count <= len(shards) and self.max_instances is None:
            yield from self._samples(shards[index::count])
        else:
            samples = islice(self._samples(shards), self.max_instances)
            yield from islice(samples, index, None, count)

    def _read(self, file_path: Any) -> Iterator[Instance]:
        for sample in self.read_shard(file_path, *consumer(self)):
            yield self.text_to_instance(*sample)

    def _samples(self, shards: List[str]) -> Iterator[Sample]:
        for shard in shards:
            for key, files in self._groups(shard):
                try:
                    yield self._sample(f"sample '{key}' of '{shard}'", files)
                except IncompleteSample as error:
                    if self.on_incomplete == "raise":
                        raise
                    self.samples_skipped += 1
                    logger.warning("Left out: %s", error)

    def _groups(self, shard: str) -> Iterator[Tuple[str, Dict[str, ShardFile]]]:
        """The samples of a shard: the key of each, and its files by their extensions."""
        key, last, files = None, None, cast(Dict[str, ShardFile], {})
        try:
            for found, file in _files(shard, self._is_wanted):
                if found[1] != key:
                    if key is not None:
                        yield key, files
                    key, last, files = found[1], key, {}
                extension = found[2].lower()
                if extension in files:
                    raise ConfigurationError(
                        f"sample '{key}' of '{shard}' has two files .{extension}; expected one"
                    )
                files[extension] = file
        except ConfigurationError:
            raise
        except Exception as error:  # as many kinds as there are ways to fetch and unpack a file
            whole = f"the last whole sample is '{last}'" if last else "no sample is whole"
            raise ImageError(
                f"'{shard}' is damaged or no tar file, or has been cut short ({error}); {whole}"
            ) from error
        if key is not None:
            yield key, files

    def _is_wanted(self, extension: str) -> bool:
        return extension == self.label_key or self._is_image(extension)

    def _is_image(self, extension: str) -> bool:
        if self.image_keys is None:
            return f".{extension}" in SUFFIXES
        return extension in self.image_keys

    def _sample(self, name: str, files: Dict[str, ShardFile]) -> Sample:
        order = files if self.image_keys is None else self.image_keys
        image = next((files[key] for key in order if key in files and self._is_image(key)), None)
        has = ", ".join(f".{extension}" for extension in files) or "none of them"
        if image is None:
            keys = ", ".join(self.image_keys or ["jpg", "png", "..."])
            raise _incomplete(f"{name} has no image: expected one of {keys}, and it has {has}")
        if self.label_key is None:
            return Sample(image)
        if self.label_key not in files:
            raise _incomplete(f"{name} has no label: expected .{self.label_key}, and it has {has}")
        label = self._label(name, files[self.label_key]())
        if isinstance(label, list):
            return Sample(image, labels=[self._class(name, each) for each in label])
        return Sample(image, self._class(name, label))

    def _label(self, name: str, data: bytes) -> Any:
        """What stands in the file of a label."""
        try:
            text = data.decode()
            value = json.loads(text) if str(self.label_key).endswith("json") else text.strip()
        except ValueError as error:
            raise ConfigurationError(f"{name}: .{self.label_key} is damaged: {error}") from error
        if isinstance(value, str):
            return value
        label = value.get(self.label_field) if isinstance(value, dict) else None
        if label is None:
            keys = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise IncompleteSample(
                f"{name} has no label: expected '{self.label_field}' (dataset_reader.label_field) "
                f"in .{self.label_key}, which has {keys}"
            )
        return label

    def _class(self, name: str, label: Any) -> str:
        if not isinstance(label, (str, int)) or isinstance(label, bool) or label == "":
            raise ConfigurationError(
                f"{name} has the label {label!r} in .{self.label_key}; expected a text or a number"
            )
        if not self.classes:
            return str(label)
        if str(label) not in self.classes:
            raise ConfigurationError(
                f"{name} has the label '{label}', which is none of dataset_reader.classes: "
                f"{', '.join(list(self.classes)[:10])}"
                f"{', ...' if len(self.classes) > 10 else ''}"
            )
        return self.classes[str(label)]


def consumer(reader: DatasetReader) -> Tuple[int, int]:
    """The number of this process among those that AllenNLP has read, and how many these are."""
    ranks, workers = reader.get_distributed_info(), reader.get_worker_info()
    rank, world_size = (ranks.global_rank, ranks.world_size) if ranks else (0, 1)
    worker, num_workers = (workers.id, workers.num_workers) if workers else (0, 1)
    return rank + world_size * worker, world_size * num_workers


def _extension(key: str) -> str:
    return key.lower().lstrip(".")


def _incomplete(what: str) -> IncompleteSample:
    return IncompleteSample(
        f"{what} (dataset_reader.image_keys and label_key); the files of a sample have one name up "
        "to the first dot, and stand side by side, as tar --sort=name puts them"
    )


# Where the shards are.


def _shards(pattern: str) -> List[str]:
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        expected = os.path.join(pattern, "*.tar")
        raise ConfigurationError(f"'{pattern}' ({KEYS}) is a folder; expected '{expected}'")
    shards = [shard for path in _in_braces(pattern) for shard in _matches(path)]
    missing = [shard for shard in shards if "://" not in shard and not os.path.isfile(shard)]
    if missing or not shards:
        folder = os.path.dirname(missing[0] if missing else pattern) or "."
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        holds = f"; '{folder}' holds {', '.join(names[:10]) or 'nothing'}" if not missing else ""
        what = f"'{missing[0]}'" if missing else "a shard"
        raise ConfigurationError(f"{what} of '{pattern}' ({KEYS}) is not there{holds}")
    return shards


def _in_braces(pattern: str) -> List[str]:
    """What a shell makes of the braces of a pattern."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is not None:
        each = words.split(",")
    else:
        each = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [path for one in each for path in _in_braces(before + one + after)]


def _matches(path: str) -> List[str]:
    if "://" not in path:
        path = os.path.expanduser(path)
        return sorted(glob.glob(path)) if _is_glob(path) else [path]
    if not _is_glob(path):
        return [path]
    with _remote(path):
        files, inside = fsspec.core.url_to_fs(path)
        return [files.unstrip_protocol(name) for name in sorted(files.glob(inside))]


def _is_glob(path: str) -> bool:
    return glob.has_magic(path) and not os.path.isfile(path)


# What is in them.


def _files(
    shard: str, is_wanted: Callable[[str], bool]
) -> Iterator[Tuple["re.Match[str]", ShardFile]]:
    """The files of a shard, with what `FILE_NAME` finds in their names. Reads the wanted alone."""
    is_remote = "://" in shard
    with _open(shard) as file:
        # Other tar files than POSIX's and GNU's, and compressed ones, have none at this place.
        is_plain = not is_remote and file.read(512)[257:262] == b"ustar"
        if not is_remote:
            file.seek(0)
        mode = "r:" if is_plain else "r|*"
        with tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as tar:  # type: ignore[call-overload]
            for member in iter(tar.next, None):
                tar.members = []  # else it remembers them all
                found = FILE_NAME.fullmatch(member.name)
                if found is None or not member.isfile():
                    continue
                if is_plain:
                    place = member.offset_data, member.size
                    yield found, ShardFile(shard, member.name, None, *place)
                else:
                    read = is_wanted(found[2].lower())
                    data = tar.extractfile(member).read() if read else b""
                    yield found, ShardFile(shard, member.name, data)


def _open(shard: str) -> BinaryIO:
    if "://" not in shard:
        return open(shard, "rb")
    with _remote(shard):
        if shard.startswith(("http://", "https://")):
            # fsspec asks for it in parts, which many servers do not give.
            return cast(BinaryIO, urlopen(shard, timeout=60))
        return cast(BinaryIO, fsspec.open(shard, "rb").open())


@contextmanager
def _remote(path: str) -> Iterator[None]:
    """Says what is wrong where a remote file cannot be opened."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"'{path}' ({KEYS}) needs one package more: {error}") from error
    except (ValueError, FileNotFoundError, HTTPError) as error:
        raise ConfigurationError(f"'{path}' ({KEYS}): {error}") from error


class _Header(tarfile.TarInfo):
    """
    Reads the headers of a tar file. tarfile takes a file that ends or has been damaged between two
    members for a whole one; this insists on the mark at its end.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
