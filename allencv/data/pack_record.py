"""The record of what `pack` has written into a folder, beside the shards."""

import json
import os
import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Optional

from allencv.data.dataset_readers.messages import some
from allencv.runtime.errors import InputError
from allencv.runtime.file_locks import lock

RECORD = ".allencv_pack.jsonl"
"""The name of the record in the folder of the shards."""
LEFTOVER = re.compile(r"\.allencv-[0-9a-f]{32}\.(tar|json)")
"""The name of a file that a killed process was writing."""
ADVICE = "expected a new folder, or the data and options that it was packed with"


class PackRecord:
    """
    What is packed into a folder, and the stamp of each finished shard: a hash of when its images
    were modified. In the file these are JSON lines, and an incomplete last line does not count.
    """

    def __init__(self, content: bytes = b"") -> None:
        self.made_from: Optional[str] = None
        self.stamps: Dict[str, str] = {}
        self.size = 0
        """Of the complete lines, in bytes."""
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            self.size += len(line)
            values: Dict[str, str] = json.loads(line)
            self.made_from = values.pop("made_from", self.made_from)
            self.stamps |= values


def read_record(folder: str) -> PackRecord:
    """Return the record of a folder, which is empty if there is none."""
    try:
        with open(os.path.join(folder, RECORD), "rb") as file:
            return _parsed(folder, file.read())
    except FileNotFoundError:
        return PackRecord()


class OpenRecord:
    """The record of a folder that this process packs into. Threads may add to it."""

    def __init__(self, file: Any, record: PackRecord) -> None:
        self._file = file
        self.stamps = record.stamps

    def add(self, shard: str, stamp: str) -> None:
        """Write that a shard is finished."""
        self._file.write(_line({shard: stamp}))


@contextmanager
def open_record(folder: str, made_from: str) -> Iterator[OpenRecord]:
    """
    Begin to pack into a folder, or continue, and keep other processes from it meanwhile.

    # Raises

    `InputError` if the folder holds anything else, or another process packs into it.
    """
    os.makedirs(folder, exist_ok=True)
    names = os.listdir(folder)
    if names and RECORD not in names:
        raise InputError(f"'{folder}' holds {some(sorted(names))}; expected a new or empty folder")
    # Without a buffer, so that each line is one write to the end of the file.
    with open(os.path.join(folder, RECORD), "a+b", buffering=0) as file:
        try:
            lock(file.fileno())
        except BlockingIOError:
            raise InputError(f"another process is packing into '{folder}'") from None
        file.seek(0)
        record = _parsed(folder, file.readall())
        if record.made_from != made_from:
            if record.stamps:
                raise InputError(f"'{folder}' holds unfinished shards of other data; {ADVICE}")
            record = PackRecord()  # nothing is lost
        file.truncate(record.size)
        if record.made_from is None:
            file.write(_line({"made_from": made_from}))
        for name in filter(LEFTOVER.fullmatch, names):
            os.unlink(os.path.join(folder, name))
        yield OpenRecord(file, record)


def _parsed(folder: str, content: bytes) -> PackRecord:
    try:
        return PackRecord(content)
    except (ValueError, TypeError, AttributeError):
        file = os.path.join(folder, RECORD)
        raise InputError(f"'{file}' is damaged; expected a new folder for the shards") from None


def _line(values: Dict[str, str]) -> bytes:
    return json.dumps(values).encode() + b"\n"
