"""Finds and reads shards: tar files of samples."""

import glob
import logging
import os
import re
import tarfile
from contextlib import contextmanager
from typing import BinaryIO, Callable, Dict, Iterator, List, Optional, Set, Tuple, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import fsspec
from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.messages import KEYS, some
from allencv.runtime import ImageError

logger = logging.getLogger(__name__)

BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}|\{([^{},]*(?:,[^{},]*)+)\}")
"""`{000..009}`, or `{train,extra}`."""

FILE_NAME = re.compile(r"(?:\./)*((?:.*/)?[^./][^./]*)\.([^/]+)")
"""The key of a sample (the file name up to the first dot) and the extension of the file."""


class ShardFile:
    """A file in a shard: its bytes or, in a local uncompressed tar file, its position."""

    __slots__ = ("data", "name", "shard", "size", "start")  # there may be millions

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
                file.seek(self.start - tarfile.BLOCKSIZE)
                header = file.read(tarfile.BLOCKSIZE)
                data = file.read(self.size)
        except OSError as error:
            raise ImageError(error.strerror or str(error)) from error
        if len(data) < self.size:
            raise ImageError("the shard has become shorter since it was listed")
        if not self._is_described_by(header):
            raise ImageError("the shard has changed since it was listed: another file is here")
        return data

    def _is_described_by(self, header: bytes) -> bool:
        """Return whether a header of a tar file may be that of this file."""
        try:
            found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        # The name in the header may be cut off, or lack what is not ASCII.
        has_whole_name = self.name.isascii() and len(self.name) <= tarfile.LENGTH_NAME
        return found.size == self.size and (not has_whole_name or found.name == self.name)

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


def find_shards(pattern: str) -> List[str]:
    """Return the shards of a path with braces, a glob or a plain path, in order."""
    if os.path.isfile(pattern):
        return [pattern]
    if os.path.isdir(pattern):
        expected = os.path.join(pattern, "*.tar")
        raise ConfigurationError(
            f"'{pattern}' ({KEYS}) is a folder without an index; expected '{expected}', or an "
            f"index: allencv pack --index-only {pattern}"
        )
    shards = [shard for path in _in_braces(pattern) for shard in _matches(path)]
    missing = [
        shard for shard in shards if not remote.is_remote(shard) and not os.path.isfile(shard)
    ]
    if missing or not shards:
        folder = os.path.dirname(missing[0] if missing else pattern) or "."
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        holds = f"; '{folder}' holds {', '.join(names[:10]) or 'nothing'}" if not missing else ""
        what = f"'{missing[0]}'" if missing else "a shard"
        raise ConfigurationError(f"{what} of '{pattern}' ({KEYS}) does not exist{holds}")
    return shards


def _in_braces(pattern: str) -> List[str]:
    """Expand the braces of a pattern, as a shell does."""
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
    if not remote.is_remote(path):
        path = os.path.expanduser(path)
        return sorted(glob.glob(path)) if _is_glob(path) else [path]
    if not _is_glob(path):
        return [path]
    with _remote(path):
        files, inside = fsspec.core.url_to_fs(path)
        return [files.unstrip_protocol(name) for name in sorted(files.glob(inside))]


def _is_glob(path: str) -> bool:
    return glob.has_magic(path) and not os.path.isfile(path)


def read_groups(
    shard: str, is_wanted: Callable[[str], bool]
) -> Iterator[Tuple[str, Dict[str, ShardFile]]]:
    """
    Yield the samples of a shard: the key of each, and its files by extension. If a shard can only
    be read from front to back, only files with a wanted extension keep their bytes.
    """
    key, last, files = "", "", cast(Dict[str, ShardFile], {})
    keys: Set[str] = set()
    others: List[str] = []
    try:
        for name, file in _files(shard, is_wanted):
            if name is None:
                others.append(file.name)
                continue
            found, extension = name
            if found != key:
                if key:
                    yield key, files
                key, last, files = found, key, {}
                if key in keys:
                    raise ConfigurationError(
                        f"the files of sample '{key}' of '{shard}' are not adjacent, or are "
                        "repeated; expected the order of tar --sort=name"
                    )
                keys.add(key)
            if extension in files:
                raise ConfigurationError(
                    f"sample '{key}' of '{shard}' has two files .{extension}; expected one"
                )
            files[extension] = file
    except ConfigurationError:
        raise
    except Exception as error:  # each protocol and format has its own errors
        whole = f"the last complete sample is '{last}'" if last else "no sample is complete"
        raise ImageError(
            f"'{shard}' is damaged, cut short or not a tar file ({error}); {whole}"
        ) from error
    if key:
        yield key, files
    if others:
        logger.warning(
            "%s: files without an extension are not used (%d): %s", shard, len(others), some(others)
        )
    if not key:
        logger.warning("%s: no samples", shard)


def _files(
    shard: str, is_wanted: Callable[[str], bool]
) -> Iterator[Tuple[Optional[Tuple[str, str]], ShardFile]]:
    """
    Yield the files of a shard except hidden ones, each with the key of its sample and its extension
    (`None` without extension). Reads only wanted files.
    """
    is_remote = remote.is_remote(shard)
    with _open(shard) as file:
        # Only uncompressed POSIX and GNU tar files have this mark here.
        is_plain = not is_remote and file.read(512)[257:262] == b"ustar"
        if not is_remote:
            file.seek(0)
        mode = "r:" if is_plain else "r|*"
        with tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as tar:  # type: ignore[call-overload]
            for member in iter(tar.next, None):
                tar.members = []  # otherwise it keeps all of them
                if not member.isfile() or os.path.basename(member.name).startswith("."):
                    continue
                found = FILE_NAME.fullmatch(member.name)
                name = (found[1], found[2].lower()) if found else None
                if is_plain:
                    place = member.offset_data, member.size
                    yield name, ShardFile(shard, member.name, None, *place)
                else:
                    read = name is not None and is_wanted(name[1])
                    data = tar.extractfile(member).read() if read else b""
                    yield name, ShardFile(shard, member.name, data)


def _open(shard: str) -> BinaryIO:
    if not remote.is_remote(shard):
        return open(shard, "rb")
    with _remote(shard):
        if shard.startswith(remote.HTTP):
            # fsspec requests it in parts, which many servers do not support.
            return cast(BinaryIO, urlopen(shard, timeout=60))
        return cast(BinaryIO, fsspec.open(shard, "rb").open())


@contextmanager
def _remote(path: str) -> Iterator[None]:
    """Explain why a remote file cannot be opened."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"'{path}' ({KEYS}) needs another package: {error}") from error
    except (ValueError, FileNotFoundError, HTTPError) as error:
        raise ConfigurationError(f"'{path}' ({KEYS}): {error}") from error


class _Header(tarfile.TarInfo):
    """
    Reads the headers of a tar file. tarfile accepts a file that ends or is damaged between two
    members; this class requires the end mark.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
