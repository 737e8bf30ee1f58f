import errno
import os
import struct
import zipfile
import zlib
from typing import Union

DAMAGES = (EOFError, NotImplementedError, RuntimeError, ValueError, struct.error, zlib.error)
"""What `zipfile` raises for damaged files, besides its own error."""


def has_valid_checksums(path: Union[str, os.PathLike]) -> bool:
    """Whether a file of `torch.save`, which is a zip archive, is whole and unchanged."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save compresses nothing. A small file that claims more could be endless to read.
            size = sum(entry.file_size for entry in archive.infolist())
            return size <= os.path.getsize(path) and archive.testzip() is None
    except (zipfile.BadZipFile, *DAMAGES):
        return False
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the beginning of the file
            raise
        return False
