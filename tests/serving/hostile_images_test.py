"""Files that somebody sends who means no good, or does not know better."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Tuple

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.runtime.preprocessing import Preprocessing
from allencv.serving.app import create_app
from allencv.serving.decoding import MAX_SCANS, UPLOAD_FORMATS, decode, open_upload
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits
from tests.serving.conftest import file_of, photo
from tests.tiff_files import tiff

Ask = Callable[..., Tuple[int, Dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(bundle: Path) -> Iterator[Ask]:
    with TestClient(create_app(OnnxClassifier(bundle), Limits(workers=1))) as client:

        def ask(file: bytes, name: str = "photo.jpg") -> Tuple[int, Dict[str, Any]]:
            response = client.post("/predict", files={"file": (name, file)})
            content = response.json()
            return response.status_code, content.get("error") or content["predictions"][0]

        yield ask


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it has this size, with `data` in place of its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose header says that it is large."""
    file = bytearray(file_of(photo("red")))
    start = file.index(b"\xff\xc0")
    file[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(file)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
JPEG = file_of(photo("red"))
PNG = file_of(photo("red"), "PNG")

REFUSED = {
    "empty": (b"", 422, "empty_file"),
    "SVG": (SVG, 415, "unsupported_format"),
    "HTML": (b"<!doctype html><script>alert(1)</script>", 415, "unsupported_format"),
    "EPS": (EPS, 415, "unsupported_format"),
    "PDF": (file_of(photo("red"), "PDF"), 415, "unsupported_format"),
    "ICO": (file_of(photo("red"), "ICO"), 415, "unsupported_format"),
    "text": (b"hello", 415, "unsupported_format"),
    "TIFF of five bands": (tiff(np.zeros((20, 20, 5), np.uint8)), 415, "unsupported_format"),
    "TIFF of doubles": (tiff(np.zeros((20, 20, 1), np.float64)), 415, "unsupported_format"),
    "JPEG XL": (b"\xff\x0a" + bytes(9), 415, "unsupported_format"),
    "zip": (b"PK\x03\x04" + bytes(100), 415, "unsupported_format"),
    "JPEG cut in its header": (JPEG[:30], 422, "damaged_image"),
    "JPEG cut in its pixels": (JPEG[:-300], 422, "damaged_image"),
    "JPEG of noise": (JPEG[:20] + bytes(range(256)) * 4, 422, "damaged_image"),
    "PNG cut in its header": (PNG[:12], 422, "damaged_image"),
    "PNG cut in its pixels": (PNG[:-1000], 422, "damaged_image"),
    "PNG without pixels": (png(10, 10), 422, "damaged_image"),
    "GIF cut": (file_of(photo("red"), "GIF")[:100], 422, "damaged_image"),
    "WEBP cut": (file_of(photo("red"), "WEBP")[:100], 422, "damaged_image"),
    "BMP cut": (file_of(photo("red"), "BMP")[:100], 422, "damaged_image"),
    "TIFF cut": (file_of(photo("red"), "TIFF")[:200], 422, "damaged_image"),
    "PNG bomb": (png(20_000, 20_000, bytes(2**20)), 413, "too_many_pixels"),
    "PNG just over": (png(4_001, 3_000), 413, "too_many_pixels"),
    "PNG far over": (png(2**31 - 1, 2**31 - 1), 413, "too_many_pixels"),
    "JPEG over": (jpeg_of_size(5_001, 5_000), 413, "too_many_pixels"),
    "JPEG far over": (jpeg_of_size(65_000, 65_000), 413, "too_many_pixels"),
    "GIF over": (
        b"GIF89a%b\x80\0\0\0\0\0\0\0\0,%b"
        % (struct.pack("<HH", 60_000, 60_000), struct.pack("<HHHHB21x", 0, 0, 60_000, 60_000, 0)),
        *(413, "too_many_pixels"),
    ),
    "narrow": (file_of(Image.new("L", (4000, 10))), 422, "odd_shape"),
    "narrow, upright": (file_of(Image.new("L", (1, 60_000)), "PNG"), 422, "odd_shape"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(ask: Ask, case: str) -> None:
    file, status, code = REFUSED[case]
    assert (status, code) == (ask(file)[0], ask(file)[1]["code"])


def test_what_is_not_damaged_is_not_called_so() -> None:
    """The message says what the file is, as that of `classify` does."""
    deep = tiff(np.full((20, 20, 3), 40_000, np.uint16))
    plain = Preprocessing(8, 8)
    assert decode(open_upload(deep, Limits()), plain) is not None
    with pytest.raises(RequestError, match=r"^16-bit colour, .* \[0, 4095\] cannot be") as error:
        decode(open_upload(deep, Limits()), replace(plain, value_range=(0, 4095)))
    assert (error.value.status, error.value.code) == (415, "unsupported_format")
    with pytest.raises(RequestError, match="^a TIFF file of 5 bands of 8-bit"):
        open_upload(tiff(np.zeros((20, 20, 5), np.uint8)), Limits())


def test_heic_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [name for name in UPLOAD_FORMATS if name != "HEIF"]  # as without the package
    monkeypatch.setattr("allencv.serving.decoding.UPLOAD_FORMATS", others)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(RequestError, match="a HEIC photograph, .* pillow-heif") as error:
        open_upload(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), Limits())
    assert (error.value.status, error.value.code) == (415, "unsupported_format")


def test_heic_is_read_where_the_package_is_installed(tmp_path: Path) -> None:
    """By the process that decodes, as by `classify`."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    photo("green", (600, 400)).save(tmp_path / "photo.heic", quality=95)
    image = open_upload((tmp_path / "photo.heic").read_bytes(), Limits())
    pixels = decode(image, Preprocessing(8, 8))
    assert pixels is not None
    assert np.array_equal(pixels, Preprocessing(8, 8)(tmp_path / "photo.heic"))


def test_a_jpeg_of_endless_scans(ask: Ask) -> None:
    """Each scan costs a pass over all pixels, and takes few bytes."""
    file = file_of(photo("red", (64, 64)), progressive=True)
    start = file.rindex(b"\xff\xda")
    scan = file[start : file.rindex(b"\xff\xd9")]
    many = file[:start] + scan * (MAX_SCANS + 1) + b"\xff\xd9"
    assert file.count(b"\xff\xda") < 20
    assert ask(file)[1]["label"] == "red"
    status, error = ask(many)
    assert (status, error["code"]) == (422, "damaged_image")
    assert "scans" in error["message"]


def with_orientation(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(image, exif=exif)


def rotated() -> bytes:
    """Red at its left third and blue elsewhere; but lying on its side, and so as upright red."""
    pixels = np.zeros((60, 600, 3), np.uint8)
    pixels[:, :, 2] = 250
    pixels[:, 270:330] = (250, 0, 0)
    return with_orientation(Image.fromarray(pixels), 6)


ACCEPTED = {
    "wrong suffix": (file_of(photo("green"), "PNG"), "green"),
    "CMYK": (file_of(photo("green").convert("CMYK")), "green"),
    "animated GIF": (
        file_of(photo("green"), "GIF", save_all=True, append_images=[photo("blue")] * 3),
        "green",
    ),
    "animated WEBP": (
        file_of(photo("green"), "WEBP", save_all=True, append_images=[photo("blue")] * 3),
        "green",
    ),
    "animated PNG": (
        file_of(photo("green"), "PNG", save_all=True, append_images=[photo("blue")] * 3),
        "green",
    ),
    "several JPEGs": (
        file_of(photo("green"), "MPO", save_all=True, append_images=[photo("blue")]),
        "green",
    ),
    "palette": (file_of(photo("blue").convert("P"), "PNG"), "blue"),
    "transparent": (file_of(photo("blue").convert("RGBA"), "PNG"), "blue"),
    "16-bit TIFF": (
        file_of(Image.fromarray(np.full((40, 40), 20_000, np.uint16)), "TIFF"),
        "red",  # all three are equal, and the first is named
    ),
    "AVIF": (file_of(photo("red"), "AVIF"), "red"),
    "BMP": (file_of(photo("red"), "BMP"), "red"),
    "lying on its side": (rotated(), "red"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(ask: Ask, case: str) -> None:
    file, label = ACCEPTED[case]
    status, answer = ask(file)
    assert (status, answer.get("label", answer)) == (200, label)


def test_the_name_of_a_file_goes_nowhere(ask: Ask, tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "/etc/passwd", "..\\..\\etc\\passwd", f"{tmp_path}/passwd"):
        status, answer = ask(JPEG, name)
        assert (status, answer["file"]) == (200, "passwd")
    assert ask(JPEG, "<script>.jpg")[1]["file"] == "<script>.jpg"
    assert len(ask(JPEG, 1000 * "a")[1]["file"]) == 255
    assert not list(tmp_path.iterdir())


def test_what_is_refused_is_not_decoded(bundle: Path) -> None:
    """A good image of 81 megapixels in a file of kilobytes."""
    bomb = file_of(Image.new("1", (9_000, 9_000)), "PNG")
    assert len(bomb) < 20_000
    with TestClient(create_app(OnnxClassifier(bundle))) as client:
        response = client.post("/predict", files=[("files", bomb)] * 5)
        figures = client.get("/metrics").text
    assert {each["error"]["code"] for each in response.json()["predictions"]} == {"too_many_pixels"}
    assert "allencv_batch_images_count 0.0" in figures
