"""The processes that decode: what ends one of them ends neither the server nor the next answer."""

import base64
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Type

import numpy as np
import pytest
from PIL import Image

from allencv.runtime.errors import ImageError
from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.serving.decoders import PIPE_BYTES, Decoders
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits
from tests.serving.conftest import file_of, photo

if sys.platform == "linux":
    import fcntl

pytestmark = pytest.mark.slow

JPEG = file_of(photo("red"))


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> OnnxClassifier:
    return OnnxClassifier(bundle)


@pytest.fixture(scope="module")
def decoders(classifier: OnnxClassifier) -> Iterator[Decoders]:
    made = Decoders(classifier, Limits(workers=1, decode_seconds=1.0))
    made.start()
    yield made
    made.close()


def process_of(decoders: Decoders) -> "subprocess.Popen[bytes]":
    process = decoders._all[0]._process
    assert process is not None
    return process


@pytest.mark.parametrize(
    "file",
    [
        JPEG,
        file_of(photo("blue"), "PNG"),
        file_of(photo("green").convert("CMYK")),
        file_of(photo("green", (2500, 2500))),  # a large one
    ],
)
def test_pixels_are_those_of_the_classifier(
    decoders: Decoders, classifier: OnnxClassifier, file: bytes
) -> None:
    assert np.array_equal(decoders.read(file), classifier.preprocess(file))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pipes of a chosen size")
def test_pipes_hold_an_image(decoders: Decoders) -> None:
    process = process_of(decoders)
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        assert fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) == PIPE_BYTES


def test_without_a_preprocessing_the_classifier_has_its_own(bundle: Path) -> None:
    """As an archive has whose transforms are the user's. The file is still checked before."""
    classifier = OnnxClassifier(bundle)
    classifier.preprocessing = None  # type: ignore[assignment]
    seen = []

    def preprocess(file: bytes) -> np.ndarray:
        seen.append(file)
        return np.zeros((2, 3, 3), np.uint8)

    def fail_with(kind: Type[Exception]) -> Callable[[bytes], np.ndarray]:
        def fail(file: bytes) -> np.ndarray:
            raise kind("the crop is larger than the image")

        return fail

    classifier.preprocess = preprocess  # type: ignore[method-assign, assignment]
    decoders = Decoders(classifier, Limits(workers=1))
    try:
        assert decoders.read(JPEG).shape == (2, 3, 3)
        with pytest.raises(RequestError, match="truncated"):
            decoders.read(JPEG[:-300])
        assert seen == [JPEG]
        for kind in (RuntimeError, MemoryError, ImageError):
            classifier.preprocess = fail_with(kind)  # type: ignore[method-assign, assignment]
            with pytest.raises(RequestError) as error:
                decoders.read(JPEG)
            assert (error.value.status, error.value.code) == (422, "not_classified")
    finally:
        decoders.close()


def tiff_of_strips(count: int) -> bytes:
    """Pillow makes an object for each strip. They overlap, so that the file is small."""
    at = 8 + 2 + 12 * 9 + 4
    tags = [
        *[(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)],
        *[(273, 4, count, at), (277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 128)],
    ]
    entries = [
        struct.pack("<HHI", tag, kind, n)
        + (struct.pack("<I", value) if kind == 4 else struct.pack("<HH", value, 0))
        for tag, kind, n, value in tags
    ]
    offsets = np.full(count, at, "<u4") + np.arange(count, dtype="<u4") % 8
    header = b"II*\0" + struct.pack("<IH", 8, 9)
    return header + b"".join(entries) + bytes(4) + offsets.tobytes() + bytes(999)


def png_with(chunk: bytes, count: int) -> bytes:
    """With many chunks before its pixels."""
    file = file_of(photo("red"), "PNG")
    return file[:33] + chunk * count + file[33:]


FLOODS = {
    "JPEG of Exif segments": JPEG[:2] + b"\xff\xe1\x00\x09Exif\0\0x" * 900_000 + JPEG[2:],
    "JPEG of comments": JPEG[:2] + b"\xff\xfe\x00\x02" * 6_000_000 + JPEG[2:],
    "TIFF of strips": tiff_of_strips(2_000_000),
    "PNG of chunks": png_with(b"\0\0\0\0tIME\x89\x00\x00\x00", 2_000_000),
    "GIF of comments": file_of(photo("red"), "GIF")[:13] + b"!\xfe\1a\0" * 6_000_000 + b";",
}


@pytest.mark.parametrize("case", FLOODS)
def test_a_flood_of_entries(decoders: Decoders, case: str) -> None:
    """Megabytes of tiny entries: each would keep a thread busy for up to minutes."""
    cpu, started = time.process_time(), time.monotonic()
    with pytest.raises(RequestError) as error:
        decoders.read(FLOODS[case])
    assert error.value.status == 422
    assert time.process_time() - cpu < 1  # in the server itself
    assert time.monotonic() - started < 20
    assert decoders.read(JPEG).shape == (16, 16, 3)


def test_it_takes_no_more_memory_than_allowed(decoders: Decoders) -> None:
    """An image that says that it is small, and whose entries take a gigabyte; and JSON."""
    bodies = [b'{"images": [' + b"[]," * 5_000_000 + b"[]]}", b'{"images": [' + b'"",' * 5_000_000]
    for body in bodies:
        with pytest.raises(RequestError) as error:
            decoders.parse_json(body)
        assert error.value.status in (400, 413, 422)
    decoders.read(JPEG)
    status = Path(f"/proc/{process_of(decoders).pid}/status").read_text()
    most = int(status.split("VmHWM:")[1].split()[0]) * 1024
    assert most < 64 * 2**20 + Limits().large_image_bytes


def test_json(decoders: Decoders) -> None:
    images = [base64.b64encode(os.urandom(1_000_000)).decode() for _ in range(3)]
    uploads = decoders.parse_json(json.dumps({"images": images}).encode())
    assert [base64.b64encode(each.file).decode() for each in uploads.images] == images
    with pytest.raises(RequestError, match="not valid JSON"):
        decoders.parse_json(b"[" * 10_000_000)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_is_replaced(decoders: Decoders, number: int) -> None:
    before = process_of(decoders)
    before.send_signal(number)
    before.wait(10)
    assert decoders.read(JPEG).shape == (16, 16, 3)
    assert process_of(decoders) is not before


def test_signals_to_the_group_are_for_the_server(decoders: Decoders) -> None:
    decoders.read(JPEG)
    before = process_of(decoders)
    for number in (signal.SIGINT, signal.SIGTERM):
        before.send_signal(number)
    assert decoders.read(JPEG).shape == (16, 16, 3)
    assert process_of(decoders) is before


def test_closing_ends_what_is_being_decoded(classifier: OnnxClassifier) -> None:
    decoders = Decoders(classifier, Limits(workers=1, decode_seconds=1000))
    decoders.start()
    errors = []

    def read() -> None:
        try:
            decoders.read(FLOODS["JPEG of Exif segments"])
        except RequestError as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.5)
    decoders.close()
    thread.join(10)
    assert [error.status for error in errors] == [503]
    assert process_of(decoders).wait(10) != 0


def test_a_process_that_cannot_start_is_said(
    classifier: OnnxClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allencv.serving.decoders.child.__name__", "no_such_module")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        Decoders(classifier, Limits(workers=1)).start()


def test_a_process_that_cannot_be_replaced(
    classifier: OnnxClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No files or processes are left, say: the client may try again, and so does the server."""
    decoders = Decoders(classifier, Limits(workers=1))
    decoders.start()
    process_of(decoders).kill()
    process_of(decoders).wait(10)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("subprocess.Popen", fail)
        with pytest.raises(RequestError) as error:
            decoders.read(JPEG)
    assert (error.value.status, error.value.code) == (503, "no_decoder")
    assert decoders.read(JPEG).shape == (16, 16, 3)
    decoders.close()


def test_it_ends_with_the_server(classifier: OnnxClassifier) -> None:
    decoders = Decoders(classifier, Limits(workers=1))
    decoders.start()
    process = process_of(decoders)
    assert process.stdin is not None
    process.stdin.close()  # as the system does when the server dies
    assert process.wait(10) == 0


def test_one_large_image_at_a_time(classifier: OnnxClassifier) -> None:
    decoders = Decoders(classifier, Limits(workers=2))
    large = file_of(Image.new("RGB", (3000, 2000)), "PNG")
    done = []
    with decoders._large_image:
        thread = threading.Thread(target=lambda: done.append(decoders.read(large)))
        thread.start()
        assert decoders.read(JPEG).shape == (16, 16, 3)
        thread.join(0.3)
        assert not done
    thread.join(20)
    assert len(done) == 1
    decoders.close()
