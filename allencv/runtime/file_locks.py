"""Keep two processes from writing to one file or folder."""

from typing import Optional

NO_LOCKS = "this system has no locks of files"


def lock(descriptor: int) -> Optional[str]:
    """
    Lock an open file or folder until it is closed or this process ends. Return the reason if it
    cannot be locked here, as on Windows and on some file systems.

    # Raises

    `BlockingIOError` if another process has the lock.
    """
    try:
        import fcntl
    except ImportError:
        return NO_LOCKS
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        return error.strerror
    return None
