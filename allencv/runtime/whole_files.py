"""Files that are written whole or not at all."""

import errno
import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def whole_file(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """
    Yield the name of a new file beside `path` to write to; at the end it is on the disk, under the
    name `path`. If anything fails, a file that was at `path` before is still there, unchanged.

    The new name is hidden, unlike any other, and has the suffix of `path`. A link is followed. What
    is there and is no regular file, such as `/dev/stdout`, is written to directly. There must be a
    reader for a named pipe.

    # Raises

    `OSError` with `path` as its `filename`, if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with _named(path, target), _reader_of(target):
            yield target
        return
    temporary = target.with_name(f".allencv-{uuid.uuid4().hex}{target.suffix[:64]}")
    try:
        with _named(path, temporary):
            yield temporary
            _sync(temporary)
            if target.exists():
                temporary.chmod(target.stat().st_mode)
            os.replace(temporary, target)
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: Union[str, os.PathLike], text: str, errors: str = "strict") -> None:
    """
    Write `text` in UTF-8 to `path`, all of it or nothing. `errors` says what becomes of characters
    that UTF-8 does not have, as in `open`.

    # Raises

    `OSError` with `path` as its `filename`, if the file cannot be written.
    """
    content = text.encode("utf-8", errors)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _reader_of(path: Path) -> Iterator[None]:
    """Make sure that somebody reads a named pipe, as opening it to write waits for that."""
    if not path.is_fifo():
        yield
        return
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "a named pipe that nobody reads") from None
        raise
    try:
        yield
    finally:
        os.close(pipe)


@contextmanager
def _named(path: Union[str, os.PathLike], written: Path) -> Iterator[None]:
    """Let an `OSError` about the file that is written name the one that was asked for."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, written, os.fspath(written)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
