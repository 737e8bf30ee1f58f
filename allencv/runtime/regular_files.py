"""Read only regular files: pipes, sockets and devices may have no end."""

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
    Refuse pipes, sockets and devices: opening a pipe waits until someone writes to it. Links are
    followed, and nothing is opened. Folders and missing files are left to the caller.

    # Raises

    `OSError` that names what is there instead of a file.
    """
    kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    if kind is not None:
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))


def open_regular(path: Union[str, os.PathLike]) -> FileIO:
    """Open a regular file to read bytes from it, without a buffer. Raise `OSError`."""
    check_regular(path)
    return open(path, "rb", buffering=0)
