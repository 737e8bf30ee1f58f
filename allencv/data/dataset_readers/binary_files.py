"""Recognises files that are not text."""

from typing import Optional

_BEGINNINGS = (
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel file: save it as CSV"),
    (b"PAR1", "a Parquet file: give it the suffix .parquet"),
    (b"ARROW1", "an Arrow file: save it as Parquet"),
    (b"\x1f\x8b", "compressed with gzip: give it the suffix .gz, as in table.csv.gz"),
    (b"BZh", "compressed with bzip2: give it the suffix .bz2, as in table.csv.bz2"),
    (b"\xfd7zXZ\0", "compressed with xz: give it the suffix .xz, as in table.csv.xz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"%PDF-", "a PDF file: save the table as CSV"),
    (b"SQLite format 3\0", "an SQLite database: save the table as CSV"),
    (b"\x89HDF", "an HDF5 file: save the table as CSV"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file with git lfs pull"),
)
_SHEET = b"xl/"
"""An Excel file is a ZIP archive with this folder."""
_PAGES = (b"<!doctype html", b"<html")


def what_it_is(data: bytes) -> Optional[str]:
    """Return what a file is and what to do about it, or `None` if it may be text."""
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            is_sheet = beginning == b"PK\x03\x04" and _SHEET in data
            return "an Excel file: save it as CSV" if is_sheet else name
    if data[:200].lstrip().lower().startswith(_PAGES):
        return "an HTML page instead of the linked file: download it again"
    return None
