"""Files that end: what is opened to be read is no pipe, socket or device."""

import errno
import os
import stat
from io import FileIO
from typing import Union

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Union[str, os.PathLike]) -> None:
    """
    Refuse what may have no end: opening a pipe waits until someone writes to it. Nothing is opened,
    and a link is followed. A folder is left to whatever opens it.

    # Raises

    `OSError` that says what is there instead of a file.
    """
    kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))


def open_regular(path: Union[str, os.PathLike]) -> FileIO:
    """Open a regular file to read bytes from it, without a buffer. Raises `OSError`."""
    check_regular(path)
    return open(path, "rb", buffering=0)
