"""The files that a config names: tables, lists and class maps; and what images are called."""

import bz2
import gzip
import lzma
import os
from typing import Callable, Dict, Tuple

from allennlp.common.checks import ConfigurationError

from allencv.data import remote
from allencv.data.dataset_readers.messages import KEYS
from allencv.runtime.images import IMAGE_SUFFIXES as IMAGE_SUFFIXES

DECOMPRESS: Dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""How a compressed file is read, by the last suffix of its name."""


def suffixes(path: str) -> Tuple[str, str]:
    """The suffix of a file without that of its compression, and the latter, in lower case."""
    stem, last = os.path.splitext(path.partition("::")[0].lower())
    return (os.path.splitext(stem)[1], last) if last in DECOMPRESS else (last, "")


def read_bytes(path: str, key: str = KEYS) -> bytes:
    """What a file that a config names holds, unpacked if it is compressed."""
    try:
        with remote.open_file(path) as file:
            data = file.read()
        return DECOMPRESS.get(suffixes(path)[1], bytes)(data)
    except Exception as error:  # as many kinds as there are file systems
        if isinstance(error, FileNotFoundError):
            reason = "is not there"
        elif isinstance(error, IsADirectoryError):
            reason = "is a folder"
        else:
            reason = f"cannot be read ({error})"
        raise ConfigurationError(f"'{path}' ({key}) {reason}; expected a file") from error


def read_text(path: str, encoding: str, key: str = KEYS) -> str:
    """The text of a file, without the mark (BOM) that UTF-8 may begin with."""
    data = read_bytes(path, key)
    try:
        return data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
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
            f"({error.reason}); dataset_reader.encoding names another encoding"
        ) from None
