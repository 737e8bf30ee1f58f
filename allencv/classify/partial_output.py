import json
import os
import sys
from contextlib import contextmanager
from typing import IO, Any, Dict, Iterable, Iterator

from allencv.classify.output_files import Record, to_line
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile
from allencv.runtime.json_files import parse_json

STAMP = "stamp"
"""The key of a record that tells whether the file of its image has changed since."""


def file_stamp(path: str) -> Any:
    """What shows later whether a file is still the same: its size and when it was changed."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


class UnfinishedRun:
    """
    The answers of a run as far as it has come, in `{output}.part`: JSON lines, of which the first
    says what the answers depend on. They outlive the process however it ends; a line that was not
    written to its end is dropped. Images whose answer was an error are tried again by the next run,
    and so are those whose file has changed since.

    # Raises

    `InputError` if another run is writing the file, or it is of a run that differs.
    """

    def __init__(self, path: str, header: Record, restart: bool) -> None:
        self.path = path
        self._places: Dict[str, int] = {}
        self._stamps: Dict[str, Any] = {}
        self._file = open(path, "a+b")  # noqa: SIM115 - for as long as this lives
        try:
            _lock(self._file, path)
            if restart:
                self._forget(header)
            self._read(header)
        except BaseException:
            self._file.close()
            raise

    def has(self, image: ImageFile) -> bool:
        """Whether the image has been classified, as its file is now."""
        stamp = self._stamps.get(image.name)
        return stamp is not None and stamp == file_stamp(image.file)

    def add(self, records: Iterable[Record]) -> None:
        place = self._file.seek(0, os.SEEK_END)
        lines = b""
        for record in records:
            self._places[record["path"]] = place + len(lines)
            lines += to_line(record)
        self._file.write(lines)
        self._file.flush()

    def records(self, images: Iterable[ImageFile]) -> Iterator[Record]:
        """The answers of these images, which all have one, in their order."""
        for image in images:
            self._file.seek(self._places[image.name])
            record = json.loads(self._file.readline())
            del record[STAMP]
            yield record

    def remove(self) -> None:
        os.remove(self.path)
        self.close()

    def close(self) -> None:
        self._file.close()

    def _forget(self, header: Record) -> None:
        """Empties the file, unless it is somebody else's."""
        self._file.seek(0)
        first = self._file.readline()
        found = _parsed(first)
        is_header = isinstance(found, dict) and "model" in found
        if not is_header and not to_line(header).startswith(first):
            raise InputError(
                f"'{self.path}' holds no answers of an interrupted run; expected another --output, "
                "or that file elsewhere"
            )
        self._file.truncate(0)

    def _read(self, header: Record) -> None:
        expected = to_line(header)
        self._file.seek(0)
        first = self._file.readline()
        if first != expected and expected.startswith(first):  # it is new, or was hardly begun
            self._file.truncate(0)
            self._file.write(expected)
            self._file.flush()
        elif first != expected:
            raise InputError(
                f"'{self.path}' is of a run that {_difference(first, header)}; give the same "
                "command to go on with it, or begin anew with --restart"
            )
        end = len(expected)
        self._file.seek(end)
        for line in self._file:
            record = _parsed(line)
            if record is None:
                break
            if "error" not in record:
                self._places[record["path"]] = end
                self._stamps[record["path"]] = record[STAMP]
            end += len(line)
        self._file.truncate(end)


def _parsed(line: bytes) -> Any:
    try:
        return parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _difference(line: bytes, header: Record) -> str:
    found = _parsed(line)
    if not isinstance(found, dict) or found.keys() != header.keys():
        return "is unknown here"
    return " and ".join(
        f"has another {key}" if key == "model" else f"has {key} {found[key]!r}, not {header[key]!r}"
        for key in header
        if found[key] != header[key]
    )


def _lock(file: IO[bytes], path: str) -> None:
    try:
        import fcntl
    except ImportError:  # on Windows nothing keeps two runs apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise InputError(f"'{path}' is being written by another run") from None


@contextmanager
def interruptible(unfinished: UnfinishedRun) -> Iterator[None]:
    """
    Close the file of an unfinished run at the end. After Ctrl-C or SIGTERM, say how to go on: the
    file has what was done, as it has in any other case.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nallencv: the same command goes on from {unfinished.path}", file=sys.stderr)
        raise
    finally:
        unfinished.close()
