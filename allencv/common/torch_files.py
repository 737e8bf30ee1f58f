import errno
import os
import struct
import zipfile
import zlib
from typing import Union

DAMAGES = (EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, zlib.error)
"""The errors of `zipfile` for damaged files, besides its own class."""


def has_valid_checksums(path: Union[str, os.PathLike]) -> bool:
    """Return whether a file of `torch.save`, a zip archive, is whole and unchanged."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save does not compress. A small file that claims more could be endless.
            size = sum(entry.file_size for entry in archive.infolist())
            return size <= os.path.getsize(path) and archive.testzip() is None
    except (zipfile.BadZipFile, *DAMAGES):
        return False
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the beginning of the file
            raise
        return False
