"""Real files with random damage: no answer is a failure of the server, and no memory is lost."""

import base64
import random
from collections import Counter
from pathlib import Path
from typing import List

import psutil
import pytest
from PIL import Image
from starlette.testclient import TestClient

from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.serving.app import create_app
from allencv.serving.limits import Limits
from tests.serving.conftest import file_of, photo


def real_files() -> List[bytes]:
    image = photo("red", (48, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        file_of(image, exif=exif),
        file_of(image, progressive=True),
        file_of(image.convert("CMYK")),
        file_of(image, "MPO", save_all=True, append_images=[image]),
        file_of(image, "PNG"),
        file_of(image.convert("P"), "PNG", save_all=True, append_images=[image]),
        file_of(image, "WEBP"),
        file_of(image, "WEBP", save_all=True, append_images=[image], lossless=True),
        file_of(image, "GIF", save_all=True, append_images=[image]),
        file_of(image, "BMP"),
        file_of(image, "TIFF"),
        file_of(image, "TIFF", compression="tiff_lzw"),
        file_of(image, "TIFF", compression="jpeg"),
        file_of(image, "AVIF"),
    ]


def damage(file: bytes, dice: random.Random) -> bytes:
    """Some of: bytes changed, above all in the header; a part cut out, doubled or moved."""
    data = bytearray(file)
    for _ in range(dice.randint(1, 4)):
        if not data:
            break
        start = dice.randrange(min(len(data), dice.choice([32, 256, 2**20])))
        length = dice.choice([1, 1, 2, 4, 16, len(data) // 4])
        kind = dice.randrange(6)
        if kind < 3:
            values = [dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])] * length
            data[start : start + length] = values[: len(data) - start]
        elif kind == 3:
            del data[start : start + length]
        elif kind == 4:
            data[start:start] = data[start : start + length]
        else:
            del data[start:]
    return bytes(data)


def memory() -> int:
    """The bytes that this process and those that decode for it have in memory."""
    this = psutil.Process()
    return sum(each.memory_info().rss for each in [this, *this.children()])


COUNTS = pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.exhaustive)])
"""How many damaged files are sent."""

KINDS = {"answered", "damaged_image", "unsupported_format", "too_many_pixels"}


@COUNTS
def test_damaged_files(bundle: Path, count: int) -> None:
    dice = random.Random(0)
    files = real_files()
    statuses: Counter = Counter()
    at_half = 0
    with TestClient(create_app(OnnxClassifier(bundle), Limits(workers=1))) as client:
        for number in range(count // 10):
            damaged = [damage(dice.choice(files), dice) for _ in range(10)]
            if number % 10 == 0:  # of one file alone, the error is the request's
                response = client.post("/predict", files={"file": damaged[0]})
                assert response.status_code in (200, 413, 415, 422), response.text
            response = client.post("/predict", files=[("files", each) for each in damaged])
            assert response.status_code == 200, response.text
            for each in response.json()["predictions"]:
                statuses[each.get("error", {}).get("code", "answered")] += 1
            if number == count // 20:
                at_half = memory()
        good = client.post("/predict", files={"file": files[0]}).json()["predictions"][0]
    growth = memory() - at_half
    print(f"{count} files: {dict(statuses)}; {growth / 2**20:.1f} MB more in the second half")
    assert good["label"] == "red"
    assert sum(statuses.values()) == count // 10 * 10
    assert set(statuses) >= KINDS
    assert growth < 30 * 2**20


@COUNTS
def test_damaged_requests(bundle: Path, count: int) -> None:
    """The damage lies in the whole body, or in the content type: in what surrounds the image."""
    dice = random.Random(1)
    file = file_of(photo("red", (48, 32)))
    statuses: Counter = Counter()
    with TestClient(create_app(OnnxClassifier(bundle), Limits(workers=1))) as client:
        image = base64.b64encode(file).decode()
        good = [
            client.build_request("POST", "/predict", files=[("files", ("a.jpg", file))] * 2),
            client.build_request("POST", "/predict", json={"images": [image]}),
            client.build_request(
                "POST", "/predict", json={"session": "1", "payload": {"inputs": {"data": image}}}
            ),
        ]
        for number in range(count // 5):
            request = dice.choice(good)
            content_type = request.headers["Content-Type"].encode()
            body = request.read()
            if number % 3:
                body = damage(body, dice)
            else:
                content_type = damage(content_type, dice)
            headers = {b"Content-Type": content_type.translate(None, b"\0\r\n")}
            response = client.post("/predict", content=body, headers=headers)
            statuses[response.status_code] += 1
    assert {200, 400, 415, 422} <= set(statuses) <= {200, 400, 413, 415, 422}
