"""Write files as a whole or not at all."""

import errno
import os
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def whole_file(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """
    Yield the name of a new file beside `path` to write to. At the end, sync it to disk and rename
    it to `path`. If anything fails, an earlier file at `path` remains unchanged.

    The new name is hidden, unique, and has the suffix of `path`. Links are followed. An existing
    path that is not a regular file, such as `/dev/stdout`, is written to directly. A named pipe
    must have a reader.

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
    Write `text` in UTF-8 to `path`, as a whole or not at all. `errors` handles characters that
    UTF-8 cannot encode, as in `open`.

    # Raises

    `OSError` with `path` as its `filename`, if the file cannot be written.
    """
    content = text.encode("utf-8", errors)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _reader_of(path: Path) -> Iterator[None]:
    """Raise an error for a named pipe without a reader: opening it to write would wait."""
    if not path.is_fifo():
        yield
        return
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "a named pipe without a reader") from None
        raise
    try:
        yield
    finally:
        os.close(pipe)


@contextmanager
def _named(path: Union[str, os.PathLike], written: Path) -> Iterator[None]:
    """Make an `OSError` about the written file name `path` instead."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, written, os.fspath(written)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _sync(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
