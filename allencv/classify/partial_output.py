import json
import os
import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

from allencv.classify.output_files import Record, to_line
from allencv.runtime.errors import InputError
from allencv.runtime.file_locks import lock
from allencv.runtime.image_files import ImageFile
from allencv.runtime.json_files import parse_json

Header = Mapping[str, object]
"""What the answers of a run depend on."""


def file_stamp(path: str) -> Optional[List[int]]:
    """Return the size and modification time of a file, to detect later changes."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


class UnfinishedRun:
    """
    The answers of a run so far, in `{output}.part`: JSON lines, the first with what the answers
    depend on. They remain however the process ends; an incomplete last line is dropped. The next
    run retries images whose answer was an error or whose file has changed.

    # Raises

    `InputError` if another run is writing the file, or if the file is of a different run.
    """

    def __init__(self, path: str, header: Header, restart: bool) -> None:
        self.path = path
        self._places: Dict[str, int] = {}
        self._stamps: Dict[str, List[int]] = {}
        self._file = open(path, "a+b")  # noqa: SIM115 - for as long as this lives
        try:
            try:
                lock(self._file.fileno())
            except BlockingIOError:
                raise InputError(f"'{path}' is being written by another run") from None
            if restart:
                self._forget(header)
            self._read(header)
        except BaseException:
            self._file.close()
            raise

    def has(self, image: ImageFile) -> bool:
        """Return whether the image was classified and its file is unchanged."""
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
        """Yield the answers of these images in order. Each must have one."""
        for image in images:
            self._file.seek(self._places[image.name])
            record = json.loads(self._file.readline())
            del record["stamp"]
            yield record

    def remove(self) -> None:
        os.remove(self.path)
        self.close()

    def close(self) -> None:
        self._file.close()

    def _forget(self, header: Header) -> None:
        """Empty the file, if it is one of answers."""
        self._file.seek(0)
        first = self._file.readline()
        found = _parsed(first)
        is_header = isinstance(found, dict) and "model" in found
        if not is_header and not to_line(header).startswith(first):
            raise InputError(
                f"'{self.path}' is not a file of an interrupted run; expected another --output, or "
                "that file moved elsewhere"
            )
        self._file.truncate(0)

    def _read(self, header: Header) -> None:
        expected = to_line(header)
        self._file.seek(0)
        first = self._file.readline()
        if first != expected and expected.startswith(first):  # it is new, or its header incomplete
            self._file.truncate(0)
            self._file.write(expected)
            self._file.flush()
        elif first != expected:
            raise InputError(
                f"'{self.path}' is of a run that {_difference(first, header)}; give the same "
                "command to resume it, or start again with --restart"
            )
        end = len(expected)
        self._file.seek(end)
        for line in self._file:
            record = _parsed(line)
            if record is None:
                break
            if "error" not in record:
                self._places[record["path"]] = end
                self._stamps[record["path"]] = record["stamp"]
            end += len(line)
        self._file.truncate(end)


def _parsed(line: bytes) -> Any:
    try:
        return parse_json(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _difference(line: bytes, header: Header) -> str:
    found = _parsed(line)
    if not isinstance(found, dict) or found.keys() != header.keys():
        return "is unknown here"
    return " and ".join(
        f"has another {key}" if key == "model" else f"has {key} {found[key]!r}, not {header[key]!r}"
        for key in header
        if found[key] != header[key]
    )


@contextmanager
def interruptible(unfinished: UnfinishedRun) -> Iterator[None]:
    """
    Close the file of an unfinished run at the end. After Ctrl-C or SIGTERM, print how to resume.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"\nallencv: the same command resumes from {unfinished.path}", file=sys.stderr)
        raise
    finally:
        unfinished.close()
