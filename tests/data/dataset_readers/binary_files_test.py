import bz2
import gzip
import io
import lzma
import zipfile

import pytest
from PIL import Image

from allencv.data.dataset_readers.binary_files import what_it_is


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return file.getvalue()


def image(format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2)).save(file, format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (zipped("a.jpg"), "a ZIP archive: unpack it"),
        (zipped(), "an empty ZIP archive"),
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "an Excel file: save it as CSV"),
        (gzip.compress(b"a"), "compressed with gzip: give it the suffix .gz"),
        (bz2.compress(b"a"), "compressed with bzip2"),
        (lzma.compress(b"a"), "compressed with xz"),
        (b"PAR1\x15", "a Parquet file: give it the suffix .parquet"),
        (image("PNG"), "a PNG image"),
        (image("JPEG"), "a JPEG image"),
        (image("GIF"), "a GIF image"),
        (b"\n<!DOCTYPE html><html>", "an HTML page instead of the linked file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_what_a_file_is(data: bytes, what: str) -> None:
    assert str(what_it_is(data)).startswith(what)


@pytest.mark.parametrize("data", [b"", b"image,label\n", b"\xef\xbb\xbfimage", b"PK,label\n"])
def test_what_may_be_text(data: bytes) -> None:
    assert what_it_is(data) is None
