import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from allencv.reporting.thumbnails import thumbnail, thumbnail_uris
from allencv.runtime import ImageError


def test_large_images_become_small_and_small_ones_large() -> None:
    assert thumbnail(Image.new("RGB", (4000, 1000))).size == (200, 50)
    assert thumbnail(Image.new("L", (30, 7))).size == (180, 42)  # by a whole number
    with pytest.raises(ImageError, match="not an image"):
        thumbnail(b"none")


def test_values_beyond_8_bits() -> None:
    pixels = np.full((200, 200), 4095, np.uint16)
    found = thumbnail(Image.fromarray(pixels), (0, 4095))
    assert found.getpixel((0, 0)) == (255, 255, 255)


def test_uris_of_files(tmp_path: Path) -> None:
    file, missing = str(tmp_path / "red.png"), str(tmp_path / "missing.png")
    Image.new("RGB", (200, 100), "red").save(file)
    found = thumbnail_uris([file, missing, file])
    assert list(found) == [file, missing]
    assert found[missing] is None
    start, _, content = found[file].partition(",")
    assert start == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == (200, 100)
    np.testing.assert_allclose(picture.getpixel((9, 9)), (255, 0, 0), atol=5)
