import io
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any, List

import numpy as np
import pytest
from PIL import Image

from allencv.runtime import ImageError, read_image
from allencv.runtime.unidentified_files import describe_unidentified, register_heif
from tests.tiff_files import tiff


def box(*brands: bytes) -> bytes:
    """The beginning of a file in the ISO base media format."""
    content = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(content) + 4).to_bytes(4, "big") + content + bytes(50)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            box(b"heic", b"mif1", b"heic"),
            "a HEIC photograph, which needs a package: pip",
        ),
        (box(b"mif1", b"mif1", b"miaf"), "a HEIC photograph"),
        (box(b"avif", b"avif", b"mif1"), "an AVIF image, which needs pillow 11.2 or later"),
        (box(b"isom", b"mp41"), "not an image in a format that pillow reads"),
        (b"\xff\x0a" + bytes(9), "a JPEG XL image"),
        (
            tiff(np.zeros((2, 3, 5), np.uint16)),
            "a TIFF file of 5 bands of 16-bit unsigned",
        ),
        (tiff(np.zeros((2, 3, 8), np.int8)), "a TIFF file of 8 bands of 8-bit signed integers"),
        (tiff(np.zeros((2, 3, 3), np.float32)), "a TIFF file of 3 bands of 32-bit floats"),
        (tiff(np.zeros((2, 3, 1), np.float64)), "a TIFF file of 1 band of 64-bit floats"),
        (b"II*\0\xff\xff\xff\xff", "not an image in a format that pillow reads"),
        (b"\0\0", "not an image in a format that pillow reads"),
    ],
)
def test_it_says_what_a_file_is(data: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AVIF", "HEIF"):  # as without the packages for them
        monkeypatch.delitem(Image.OPEN, name, raising=False)
    assert describe_unidentified(data).startswith(said)


@pytest.mark.parametrize(
    ("brand", "name", "said"),
    [(b"heic", "HEIF", "a damaged HEIC photograph"), (b"avif", "AVIF", "a damaged AVIF image")],
)
def test_a_file_that_pillow_should_read_is_damaged(
    brand: bytes, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Image.OPEN, name, Image.OPEN["PNG"])
    assert describe_unidentified(box(brand)) == said


def test_a_tar_file_is_no_image() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    assert describe_unidentified(file.getvalue()) == "a tar file, not an image: unpack it"


def test_the_error_names_the_file_and_says_it(tmp_path: Path) -> None:
    (tmp_path / "bands.tif").write_bytes(tiff(np.zeros((1, 2, 5), np.uint8)))
    with pytest.raises(ImageError, match=r"/bands.tif: a TIFF file of 5 bands .* convert it$"):
        read_image(tmp_path / "bands.tif")


def test_heic_is_read_where_the_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    called: List[Any] = []
    package = ModuleType("pillow_heif")
    package.register_heif_opener = lambda **options: called.append(options)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    register_heif()
    assert called == [{"decode_threads": 1}]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    register_heif()
    assert len(called) == 1
