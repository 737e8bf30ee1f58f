import gzip
import io
import random
import tarfile
import zlib
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from allencv.common.unpack_archive import ArchiveError, unpack

FILES: Dict[str, bytes] = {
    "config.json": b"{}",
    "weights.th": random.Random(0).randbytes(70_000),
    "vocabulary/.lock": b"",
    "vocabulary/labels.txt": b"ant\nbee\n",
    "vocabulary/*tags.txt": "ä\n".encode(),
    "meta.json": b'{"version": "2.10.1"}',
    "tables/prices.csv": b"1,2\n",
}
DAMAGES = (ArchiveError, EOFError, OSError, tarfile.TarError, zlib.error)


def tar_of(
    members: "List[Tuple[tarfile.TarInfo, bytes]]", format: int = tarfile.PAX_FORMAT
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for header, content in members:
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def file(name: str, content: bytes = b"", **others: object) -> "Tuple[tarfile.TarInfo, bytes]":
    header = tarfile.TarInfo(name)
    header.size = len(content)
    for key, value in others.items():
        setattr(header, key, value)
    return header, content


def good_files() -> "List[Tuple[tarfile.TarInfo, bytes]]":
    return [file(name, content) for name, content in FILES.items()]


def unpacked(tmp_path: Path, data: bytes) -> Dict[str, bytes]:
    """The files that `unpack` has written, after a look at what is beside their folder."""
    archive, folder = tmp_path / "m.tar.gz", tmp_path / "folder"
    archive.write_bytes(data)
    folder.mkdir(exist_ok=True)
    others = unpack(archive, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"m.tar.gz", "folder"}
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    assert set(others) == set(files) - (set(FILES) - {"tables/prices.csv"})
    return files


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_it_unpacks_plain_files(tmp_path: Path, format: int, prefix: str) -> None:
    members = [file(f"{prefix}vocabulary", type=tarfile.DIRTYPE)]
    # With a fraction of a second each file has an extended header, as in archives of AllenNLP.
    members += [file(prefix + name, data, mtime=1.5) for name, data in FILES.items()]
    assert unpacked(tmp_path, gzip.compress(tar_of(members, format))) == FILES


def test_a_long_name_is_read(tmp_path: Path) -> None:
    name = f"vocabulary/{'ü' * 110}.txt"
    archive = gzip.compress(tar_of([file(name, b"a")]))
    (tmp_path / "m.tar.gz").write_bytes(archive)
    (tmp_path / "folder").mkdir()
    assert unpack(tmp_path / "m.tar.gz", tmp_path / "folder") == []
    assert (tmp_path / "folder" / name).read_bytes() == b"a"


REFUSED = {
    "symbolic link": (
        file("vocabulary/a.txt", type=tarfile.SYMTYPE, linkname="labels.txt"),
        "link",
    ),
    "link out": (file("escape", type=tarfile.SYMTYPE, linkname="/etc"), "a symbolic link"),
    "hard link": (file("a", type=tarfile.LNKTYPE, linkname="config.json"), "a hard link"),
    "pipe": (file("weights.th", type=tarfile.FIFOTYPE), "a pipe"),
    "device": (file("weights.th", type=tarfile.CHRTYPE), "a device"),
    "disk": (file("weights.th", type=tarfile.BLKTYPE), "a device"),
    "contiguous": (file("x", type=tarfile.CONTTYPE), "of the type b'7'; expected plain files only"),
    "unknown": (file("x", type=b"Q"), "of the type b'Q'"),
    "absolute": (file("/etc/passwd"), "'/etc/passwd', which is not part of an archive"),
    "above": (file("../outside.txt"), "not part of an archive"),
    "above, later": (file("vocabulary/../../outside.txt"), "not part of an archive"),
    "above, folder": (file("tables/..", type=tarfile.DIRTYPE), "the folder 'tables/..'"),
    "above, at the end": (file("tables/.."), "not part of an archive"),
    "twice above": (file("././../outside.txt"), "not part of an archive"),
    "empty part": (file("tables//prices.csv"), "not part of an archive"),
    "no name": (file(""), "not part of an archive"),
    "backslash": (file("..\\outside.txt"), "not part of an archive"),
    "drive": (file("C:outside.txt"), "not part of an archive"),
    "line break": (file("a\nb"), "not part of an archive"),
    "below the vocabulary": (file("vocabulary/more/labels.txt"), "not part of an archive"),
    "code in the vocabulary": (file("vocabulary/labels.py"), "not part of an archive"),
    "below a file": (file("config.json/a"), "'config.json.*', but a file cannot be a folder too"),
    "far below a file": (file("config.json/a/b"), "'config.json.*', but a file cannot be a folder"),
    "deep": (file("a/" * 600 + "b"), "a name of 1,201 characters; expected at most 1000"),
    "long in bytes": (file("é" * 200), "'éé.*, a name that is too long"),
    "twice": (file("config.json", b"{}"), "holds 'config.json' twice"),
    "twice with a prefix": (file("./config.json", b"{}"), "holds 'config.json' twice"),
    "large text": (file("checksums.json", b" " * (2**24 + 1)), "has 16,777,217 bytes; expected"),
    "sparse": (
        file("x", b"0", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}),
        "a header holds .*GNU.sparse",
    ),
    "other path": (file("x", pax_headers={"path": "../outside.txt"}), "not part of an archive"),
    "other link": (file("x", pax_headers={"linkpath": "/etc"}), "a header holds .*linkpath"),
    "negative size": (file("x", pax_headers={"size": "-512"}), "a header holds .*size=-512"),
    "large header": (file("x", pax_headers={"uname": "n" * 2**17}), "a header has 131,"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("place", ["first", "last"])
def test_what_an_archive_does_not_have_is_refused(tmp_path: Path, case: str, place: str) -> None:
    member, message = REFUSED[case]
    members = [member, *good_files()] if place == "first" else [*good_files(), member]
    with pytest.raises(ArchiveError, match=message) as raised:
        unpacked(tmp_path, gzip.compress(tar_of(members)))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    assert {path.name for path in tmp_path.iterdir()} == {"m.tar.gz", "folder"}


def test_a_sparse_file_of_gnu_is_refused(tmp_path: Path) -> None:
    data = bytearray(tar_of([file("weights.th")], tarfile.GNU_FORMAT))
    header = tarfile.TarInfo.frombuf(bytes(data[:512]), "utf-8", "strict")
    data[156:157] = tarfile.GNUTYPE_SPARSE
    data[148:156] = b"%06o\0 " % (header.chksum + ord("S") - ord("0"))
    with pytest.raises(ArchiveError, match=r"'weights.th' is a sparse file"):
        unpacked(tmp_path, gzip.compress(bytes(data)))


def test_a_header_for_all_files_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"path": "../outside.txt"}) as archive:
        archive.addfile(*file("config.json"))
    with pytest.raises(ArchiveError, match="of the type b'g'"):
        unpacked(tmp_path, gzip.compress(buffer.getvalue()))


ZEROS = bytes(2**26)
BOMBS = {
    "weights": ([file("weights.th", ZEROS)], b"", "weights.th would unpack to 67,108,864 bytes"),
    "others": ([file(f"{i}.csv", ZEROS[: 2**20]) for i in range(40)], b"", "31.csv would unpack"),
    "after the end": ([file("config.json")], ZEROS, "its end would unpack"),
    "many files": ([file(f"{i}.csv") for i in range(1001)], b"", "more than 1000 files"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_what_grows_too_much_is_refused(tmp_path: Path, case: str) -> None:
    members, rest, message = BOMBS[case]
    with pytest.raises(ArchiveError, match=message):
        unpacked(tmp_path, gzip.compress(tar_of(members) + rest))
    written = sum(path.stat().st_size for path in (tmp_path / "folder").rglob("*"))
    assert written <= 2**25


def test_weights_that_do_not_shrink_may_be_large(tmp_path: Path) -> None:
    weights = random.Random(0).randbytes(2**20) * 40  # too far apart for gzip to see
    archive = gzip.compress(tar_of([file("weights.th", weights)]), 1)
    assert unpacked(tmp_path, archive) == {"weights.th": weights}


def test_any_changed_bit_is_noticed(tmp_path: Path) -> None:
    """But those of the header of gzip that say when, where and from what name it was packed."""
    archive = gzip.compress(tar_of(good_files()))
    dice = random.Random(0)
    places = [*dice.sample(range(10, 600), 200), *dice.sample(range(600, len(archive)), 100)]
    for place in [*range(4), *places]:
        data = bytearray(archive)
        bits = range(1, 5) if place == 3 else range(8)  # gzip's other flags say nothing
        data[place] ^= 1 << dice.choice(bits)
        folder = tmp_path / str(place)
        folder.mkdir()
        with pytest.raises(DAMAGES):
            unpacked(folder, bytes(data))


@pytest.mark.parametrize("length", [0, 1, 9, 100, 30_000, -512, -9, -8, -1])
def test_a_cut_archive_is_noticed(tmp_path: Path, length: int) -> None:
    archive = gzip.compress(tar_of(good_files()))
    with pytest.raises(DAMAGES):
        unpacked(tmp_path, archive[:length])


def test_a_cut_tar_in_a_whole_gzip_is_noticed(tmp_path: Path) -> None:
    tar = tar_of(good_files())
    end = len(tar.rstrip(b"\0"))
    for length in (0, 512, 1024, end, -(-end // 512) * 512):
        folder = tmp_path / str(length)
        folder.mkdir()
        with pytest.raises(EOFError, match="ends too early"):
            unpacked(folder, gzip.compress(tar[:length]))


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (b"text", "Not a gzipped file"),
        (gzip.compress(b"text"), "continues after its end"),
        (gzip.compress(tar_of(good_files())), "continues after its end"),
    ],
)
def test_what_follows_the_end_is_refused(tmp_path: Path, rest: bytes, message: str) -> None:
    with pytest.raises((ArchiveError, gzip.BadGzipFile), match=message):
        unpacked(tmp_path, gzip.compress(tar_of(good_files())) + rest)
