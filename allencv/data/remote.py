"""Files on this machine or behind a URL that fsspec understands."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, Iterator, Union

import fsspec
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path

from allencv.runtime import ImageError
from allencv.runtime.regular_files import open_regular

HTTP = ("http://", "https://")


@dataclass(frozen=True)
class RemoteImage:
    """
    The source of an image behind a URL, fetched each time it is decoded: `s3://`, `gs://`,
    `memory://` and the other file systems of [fsspec](https://filesystem-spec.readthedocs.io).
    AllenNLP caches files behind `http://` and `https://`.

    An image that cannot be fetched raises `ImageError`.
    """

    url: str

    def __call__(self) -> bytes:
        try:
            with open_file(self.url) as file:
                return file.read()
        except Exception as error:  # each file system has its own errors
            raise ImageError(f"cannot be fetched ({error})") from error

    def __str__(self) -> str:
        return self.url


def is_remote(path: str) -> bool:
    return "://" in path


def expand(path: Any) -> str:
    """Return a path or a URL as a string; `~` is the home folder."""
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigurationError(f"the path is {path!r}; expected the text of a path or a URL")
    path = os.fspath(path)
    return path if is_remote(path) else os.path.expanduser(path)


@contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """Open a path or a URL to read bytes."""
    if is_remote(path) and not path.startswith(HTTP):
        with fsspec.open(path, "rb") as file:
            yield file
    else:
        with open_regular(cached_path(path) if is_remote(path) else path) as file:
            yield file


def exists(path: str) -> bool:
    if not is_remote(path):
        return os.path.exists(path)
    if path.startswith(HTTP):
        try:
            cached_path(path)
        except Exception:
            return False
        return True
    file_system, name = fsspec.url_to_fs(path)
    return bool(file_system.exists(name))


def parent(path: str) -> str:
    """Return the folder of a file: for `zip://a/b.csv::s3://c.zip`, `zip://a::s3://c.zip`."""
    if not is_remote(path):
        return os.path.dirname(path)
    first, chain, rest = path.partition("::")
    folder = first.rpartition("/")[0]
    return (folder + "/" if folder.endswith(":/") else folder) + chain + rest


def join(folder: str, path: str) -> str:
    """Return the path of a file in a folder, or `path` itself if it is absolute or a URL."""
    if is_remote(path) or os.path.isabs(path) or not is_remote(folder):
        return path if is_remote(path) else os.path.join(folder, os.path.expanduser(path))
    first, chain, rest = folder.partition("::")
    return f"{first}{'' if first.endswith('/') else '/'}{path}{chain}{rest}"


def relative(path: str, root: str) -> str:
    """Return the path of a file relative to a folder, or `path` itself if it is elsewhere."""
    return path.removeprefix(root if root.endswith("/") else f"{root}/")


def image_source(path: str) -> Union[str, RemoteImage]:
    return RemoteImage(path) if is_remote(path) else path
