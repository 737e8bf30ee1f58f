"""Reads the files that a config names: tables, lists, class maps."""

import bz2
import codecs
import gzip
import lzma
import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Callable, Dict, Iterator, Optional, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.binary_files import what_it_is
from allencv.data.dataset_readers.messages import KEYS

DECOMPRESS: Dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""Functions to open compressed files, by the last suffix."""

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # it starts like that of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by their byte order mark (BOM). None of these is UTF-8."""

_kept: ContextVar[Optional[Dict[str, bytes]]] = ContextVar("kept", default=None)
"""The content of files by path, inside `each_file_read_once`."""


@contextmanager
def each_file_read_once() -> Iterator[None]:
    """
    Keep the content of the files that are read inside, so that none is opened twice. Uses may be
    nested: the outermost decides how long the content is kept.
    """
    kept = _kept.get()
    token = _kept.set({} if kept is None else kept)
    try:
        yield
    finally:
        _kept.reset(token)


def suffixes(path: str) -> Tuple[str, str]:
    """Return the suffixes of a file and of its compression, in lower case."""
    stem, last = os.path.splitext(path.partition("::")[0].lower())
    return (os.path.splitext(stem)[1], last) if last in DECOMPRESS else (last, "")


def read_bytes(path: str, key: str = KEYS) -> bytes:
    """Return the content of a file that a config names, decompressed if necessary."""
    kept = _kept.get()
    if kept is None:
        return _read_bytes(path, key)
    if path not in kept:
        kept[path] = _read_bytes(path, key)
    return kept[path]


def _read_bytes(path: str, key: str) -> bytes:
    try:
        with remote.open_file(path) as file:
            data = file.read()
        return DECOMPRESS.get(suffixes(path)[1], bytes)(data)
    except Exception as error:  # each file system has its own errors
        if isinstance(error, FileNotFoundError):
            reason = "does not exist"
        elif isinstance(error, IsADirectoryError):
            reason = "is a folder"
        else:
            reason = f"cannot be read ({error})"
        raise ConfigurationError(f"'{path}' ({key}) {reason}; expected a file") from error


def read_text(path: str, encoding: str, key: str = KEYS) -> str:
    """
    Return the text of a file without its byte order mark (BOM). A mark of UTF-16 or UTF-32
    overrides the encoding UTF-8.
    """
    data = read_bytes(path, key)
    if (what := what_it_is(data)) is not None:
        raise ConfigurationError(f"{path} is {what}; expected a text file")
    if encoding.lower() in ("utf-8", "utf8"):
        encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), encoding)
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError:
        raise ConfigurationError(
            f"dataset_reader.encoding is '{encoding}'; expected one that Python knows, such as "
            "utf-8, latin-1 or utf-16"
        ) from None
    except UnicodeDecodeError as error:
        data = error.object  # without the mark
        line = data[: error.start].decode(encoding, "replace").count("\n") + 1
        raise ConfigurationError(
            f"{path}, line {line}: {data[error.start : error.end]!r} is not {encoding} "
            f"({error.reason}); set dataset_reader.encoding to the encoding of the file"
        ) from None
    if "\0" in text:
        raise ConfigurationError(
            f"{path} contains zero bytes, unlike text in {encoding}; expected the encoding of the "
            "file in dataset_reader.encoding, such as utf-16-le"
        )
    return text
