import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import pytest
from PIL import Image

from allencv.runtime.images import read_image
from allencv.serving.client import Client, ServerError, _file_of
from tests.conftest import ROOT
from tests.runtime.tiny_bundle import LABELS
from tests.serving.conftest import COLORS, Running, file_of, photo, serving, square


@pytest.fixture
def client(server: Running) -> Client:
    return Client(server.url + "/")


def test_labels(client: Client) -> None:
    assert client.labels() == LABELS


def test_predict(client: Client, tmp_path: Path) -> None:
    paths: List[Any] = []
    for label in [*COLORS] * 5:
        paths.append(tmp_path / f"{len(paths)}.jpg")
        paths[-1].write_bytes(file_of(photo(label)))
    answers = client.predict(paths, top_k=1)
    assert [each["label"] for each in answers] == [*COLORS] * 5
    assert [each["file"] for each in answers] == [str(path) for path in paths]
    assert {len(each["top_k"]) for each in answers} == {1}
    (answer,) = client.predict([paths[0].read_bytes()])
    assert answer.keys() == {"label", "top_k"}


def test_what_a_calibrated_model_decides(calibrated: Path) -> None:
    with serving(calibrated) as running:
        answer = Client(running.url).predict(square("gold"))
    assert answer == {
        "label": "red",
        "labels": ["red", "green"],
        "is_unknown": False,
        "is_answered": True,
        "top_k": answer["top_k"],
    }


def test_a_single_image(client: Client, tmp_path: Path) -> None:
    image = photo("green")
    image.save(tmp_path / "green.png")
    path = tmp_path / "green.png"
    given: List[Any] = [str(path), path, path.read_bytes(), image, np.asarray(image)]
    for each, expected in zip(given, client.predict(given, top_k=2), strict=True):
        assert client.predict(each, top_k=2) == expected
    batch: Any = np.stack([np.asarray(image)] * 2)
    assert [answer["label"] for answer in client.predict(batch)] == ["green"] * 2


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "", "/photos"])
def test_a_url_needs_its_scheme(url: str) -> None:
    with pytest.raises(ValueError, match=f"url is '{url}'; expected one that begins with http://"):
        Client(url)


def test_a_client_reads_well() -> None:
    assert repr(Client("http://127.0.0.1:8000/")) == "Client('http://127.0.0.1:8000')"


def test_images_of_all_kinds(client: Client, tmp_path: Path) -> None:
    image = photo("green")
    image.save(tmp_path / "green.png")
    path = tmp_path / "green.png"
    given: List[Any] = [str(path), path, path.read_bytes(), image, np.asarray(image)]
    answers = client.predict(given)
    assert [answer["label"] for answer in answers] == ["green"] * 5
    assert [answer.get("file") for answer in answers] == [str(path)] * 2 + [None] * 3
    assert len({str(answer["top_k"]) for answer in answers}) == 1


@pytest.mark.parametrize(
    "mode",
    [
        *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"),
        *("LAB", "I", "F", "I;16"),
    ],
)
def test_pil_images_are_sent_without_loss(mode: str) -> None:
    rgb = photo("red")
    if mode == "LAB":
        image = Image.merge("LAB", rgb.split())
    elif mode == "RGBa":
        image = rgb.convert("RGBA").convert("RGBa")
    elif mode == "PA":
        image = rgb.convert("P").convert("PA")
    elif mode == "I;16":
        image = Image.fromarray((np.asarray(rgb.convert("L")).astype(np.uint16) << 8) + 7)
    else:
        image = rgb.convert(mode)
    assert image.mode == mode
    assert np.array_equal(read_image(_file_of(image)), read_image(image))


def test_an_image_on_its_side_is_sent_so() -> None:
    image = photo("red")
    image.getexif()[0x0112] = 6
    assert np.array_equal(read_image(_file_of(image)), read_image(image))
    assert read_image(_file_of(image)).shape == (60, 40, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (1, "int is not an image; expected a path"),
        ([np.zeros((3, 4, 5), np.uint8)], r"shape \(3, 4, 5\), which looks like \(channels"),
        ([np.zeros((3, 4))], "dtype float64"),
        ([1], "int is not an image; expected a path, bytes, a PIL image or an array"),
    ],
)
def test_what_is_no_image(images: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Client("http://127.0.0.1:9").predict(images)


def test_a_bad_image_is_answered_with_its_error(client: Client, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    bad, large, good = client.predict(
        [tmp_path / "text.jpg", bytes(2_000_000), file_of(photo("blue"))]
    )
    assert bad.keys() == {"file", "error"}
    assert bad["error"]["code"] == "unsupported_format"
    assert large["error"]["code"] == "body_too_large"
    assert good["label"] == "blue"


def test_what_is_wrong_with_the_request_is_raised(client: Client) -> None:
    with pytest.raises(ServerError, match="top_k=0: top_k is not a positive number"):
        client.predict([file_of(photo("red"))], top_k=0)
    with pytest.raises(FileNotFoundError):
        client.predict(["no/such/file.jpg"])


def test_there_is_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerError, match=f"{url}/labels: no answer .*refused"):
        Client(url).labels()


class Other(BaseHTTPRequestHandler):
    """Answers as its server's list of answers says."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def other() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


BUSY = (429, b'{"error": {"code": "overloaded", "message": "busy"}}')
GOOD = (200, b'{"predictions": [{"file": "image", "label": "red", "top_k": []}]}')


def test_a_busy_server_is_asked_again(other: HTTPServer) -> None:
    client = Client(f"http://127.0.0.1:{other.server_port}", retries=2)
    other.answers = [BUSY, BUSY, GOOD]  # type: ignore[attr-defined]
    assert client.predict([b"image"]) == [{"label": "red", "top_k": []}]
    other.answers = [BUSY, BUSY, BUSY, GOOD]  # type: ignore[attr-defined]
    with pytest.raises(ServerError, match="predict: busy"):
        client.predict([b"image"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [((502, b"<html>"), "HTTP status 502"), ((200, b"<html>"), "no answer")],
)
def test_answers_of_something_else(other: HTTPServer, answer: Any, message: str) -> None:
    other.answers = [answer]  # type: ignore[attr-defined]
    with pytest.raises(ServerError, match=message):
        Client(f"http://127.0.0.1:{other.server_port}").predict([b"image"])


def test_it_needs_the_standard_library_alone() -> None:
    code = "import sys, allencv.serving.client; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"numpy", "PIL", "fastapi", "starlette"} & set(result.stdout.split())
