import os
import zipfile
from typing import Union


def has_valid_checksums(path: Union[str, os.PathLike]) -> bool:
    """Whether a file of `torch.save`, which is a zip archive, is whole and unchanged."""
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save compresses nothing. A small file that claims more could be endless to read.
            size = sum(entry.file_size for entry in archive.infolist())
            return size <= os.path.getsize(path) and archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError):
        return False
