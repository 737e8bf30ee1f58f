"""Unpack untrusted model archives."""

import errno
import gzip
import re
import tarfile
from pathlib import Path
from typing import BinaryIO, Dict, List, Optional, Set

from allennlp.common.meta import META_NAME
from allennlp.models.archival import _WEIGHTS_NAME as WEIGHTS_NAME
from allennlp.models.archival import CONFIG_NAME

from allencv import AllenCVError
from allencv.runtime.certainty.files import ARRAYS_FILE, FILES

CHECKSUMS_NAME = "checksums.json"
"""The SHA-256 of every other file of the archive, by name. AllenNLP's archives do not have it."""
PART = r"(?!\.{1,2}(/|$))[^/\\:\x00-\x1f]{1,255}"
"""A name of a file or folder, without a path, on any system."""
OWN_FILES = re.compile(
    rf"{CONFIG_NAME}|{META_NAME}|{CHECKSUMS_NAME}|{WEIGHTS_NAME}|{'|'.join(FILES)}"
    rf"|vocabulary/(\.lock|{PART}\.txt)"
)
OTHER_FILES = re.compile(rf"(?!vocabulary(/|$)){PART}(/{PART})*")
"""Files that a config may add with `include_in_archive`."""

LARGEST_TEXT = 2**24
"""16 MiB for each text file: the labels of ImageNet-21k take half a megabyte."""
MOST_FILES = 1000
LONGEST_NAME = 1000
"""Of a member with its folders, in characters. Systems take about 4000 bytes for a whole path."""
MOST_GROWTH, ALWAYS_ALLOWED = 50, 2**25
"""
An archive may unpack to 50 times its own size, or to 32 MiB. Trained weights hardly compress; zeros
compress 1000 times.
"""
LARGEST_HEADER = 2**16
HEADER_KEYS = {"path", "size", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname"}
"""The allowed keys of an extended header. Python writes one for each file, with the exact time."""
KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
CHUNK = 2**16


class ArchiveError(AllenCVError, ValueError):
    """An archive cannot be opened. The message says why, but not which archive it is."""


def unpack(archive: Path, folder: Path) -> List[str]:
    """
    Write the files of a model archive to the empty `folder`, and to no other place. Return the
    names of additional files, which not every archive has.

    Python's `tarfile` follows links, and its filters against this have had gaps. So this function
    reads the archive itself. It accepts only regular files with the names of an archive's files. It
    reads the archive to its end, because the checksum is there.

    # Raises

    `ArchiveError` for a member that does not belong in an archive, or if the archive unpacks to too
    many bytes. `OSError`, `EOFError`, `tarfile.TarError` or `zlib.error` if it is damaged.
    """
    seen: Set[str] = set()
    others: List[str] = []
    with gzip.open(archive) as opened:
        stream = _Stream(opened, archive.stat().st_size)
        while (member := _next_member(stream)) is not None:
            if member.name in seen:
                raise ArchiveError(f"it holds {member.name!r} twice")
            seen.add(member.name)
            if len(seen) > MOST_FILES:
                raise ArchiveError(f"it holds more than {MOST_FILES} files")
            if member.isdir():
                continue
            with _new_file(folder, member.name) as file:
                stream.copy(member.size, file)
            stream.read(-member.size % tarfile.BLOCKSIZE)
            if not OWN_FILES.fullmatch(member.name):
                others.append(member.name)
        stream.read_to_end()
    return others


def _new_file(folder: Path, name: str) -> BinaryIO:
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return open(target, "xb")
    except (FileExistsError, NotADirectoryError):
        raise ArchiveError(f"it holds {name!r:.100}, but a file cannot be a folder too") from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise ArchiveError(f"it holds {name!r:.100}, a name that is too long") from None


class _Stream:
    """The unpacked bytes of an archive of `packed` bytes, with a limit."""

    def __init__(self, opened: gzip.GzipFile, packed: int) -> None:
        self._opened = opened
        self._packed = packed
        self._left = max(ALWAYS_ALLOWED, MOST_GROWTH * packed)

    def check_room(self, size: int, what: str) -> None:
        if size > self._left:
            raise ArchiveError(
                f"{what} would unpack to {size:,} bytes, and the archive has {self._packed:,}; "
                f"expected at most {MOST_GROWTH} times as many in all, or {ALWAYS_ALLOWED:,}"
            )

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes, a small number."""
        self.check_room(size, "a part of it")
        self._left -= size
        data = self._opened.read(size)
        if len(data) < size:
            raise EOFError("it ends too early")
        return data

    def copy(self, size: int, file: BinaryIO) -> None:
        while size > 0:
            data = self.read(min(size, CHUNK))
            file.write(data)
            size -= len(data)

    def read_to_end(self) -> None:
        """Read the bytes after the last member: zeros, and the checksum."""
        while data := self._opened.read(CHUNK):
            self.check_room(len(data), "its end")
            self._left -= len(data)
            if data.strip(b"\0"):
                raise ArchiveError("it continues after its end")


def _next_member(stream: _Stream) -> Optional[tarfile.TarInfo]:
    """Return the next file or folder, or `None`. Its content follows in the stream."""
    header = stream.read(tarfile.BLOCKSIZE)
    if not any(header):
        return None
    member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    if member.type == tarfile.XHDTYPE:
        extended = _extended_header(stream, member.size)
        member = tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        member.name = extended.get("path", member.name)
        if "size" in extended:
            member.size = int(extended["size"])
    member.name = member.name.removeprefix("./").rstrip("/")
    _check_member(member)
    if not member.isdir():
        stream.check_room(member.size, member.name)
    return member


def _extended_header(stream: _Stream, size: int) -> Dict[str, str]:
    """Read an extended header, with lines of "LENGTH KEY=VALUE"."""
    if not 0 <= size <= LARGEST_HEADER:
        raise ArchiveError(f"a header has {size:,} bytes; expected at most {LARGEST_HEADER:,}")
    data = stream.read(size)
    stream.read(-size % tarfile.BLOCKSIZE)
    values: Dict[str, str] = {}
    while data:
        found = re.match(rb"([1-9][0-9]{0,5}) ([a-z]+)=", data)
        line = data[: int(found[1])] if found else b""
        if found is None or not line.endswith(b"\n"):
            raise ArchiveError(f"a header holds {data[:60]!r}; expected a key and a value")
        key = found[2].decode()
        value = line[found.end() : -1].decode("utf-8", "surrogateescape")
        if key not in HEADER_KEYS or (key == "size" and not re.fullmatch("[0-9]{1,15}", value)):
            raise ArchiveError(f"a header holds {line[:60]!r}; expected {sorted(HEADER_KEYS)}")
        values[key] = value
        data = data[len(line) :]
    return values


def _check_member(member: tarfile.TarInfo) -> None:
    """Raise `ArchiveError` for a member that is not allowed."""
    name = f"{member.name!r:.100}"
    if len(member.name) > LONGEST_NAME:
        raise ArchiveError(
            f"it holds {name}, a name of {len(member.name):,} characters; expected at most "
            f"{LONGEST_NAME}"
        )
    if member.isdir():
        if member.name not in ("", ".", "vocabulary") and not OTHER_FILES.fullmatch(member.name):
            raise ArchiveError(f"it holds the folder {name}, which is not part of an archive")
        return
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = KINDS.get(member.type, f"of the type {member.type!r}")
        raise ArchiveError(f"{name} is {kind}; expected plain files only")
    if not OWN_FILES.fullmatch(member.name) and not OTHER_FILES.fullmatch(member.name):
        raise ArchiveError(f"it holds {name}, which is not part of an archive")
    is_text = OWN_FILES.fullmatch(member.name) and member.name not in (WEIGHTS_NAME, ARRAYS_FILE)
    if member.size < 0 or (is_text and member.size > LARGEST_TEXT):
        raise ArchiveError(f"{name} has {member.size:,} bytes; expected at most {LARGEST_TEXT:,}")
