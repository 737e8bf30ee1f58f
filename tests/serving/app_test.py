"""What is asked and answered over HTTP, apart from hostile requests."""

import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from allencv.runtime.defaults import TOP_K
from allencv.runtime.onnx_classifier import OnnxClassifier
from allencv.serving.app import create_app
from allencv.serving.bodies import SMALL_BODY
from allencv.serving.decoders import Decoders
from allencv.serving.limits import Limits
from tests.conftest import ROOT
from tests.runtime.tiny_bundle import LABELS, softmax_of, write_bundle
from tests.serving.conftest import MIXED, file_of, photo, square


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[TestClient]:
    with TestClient(create_app(OnnxClassifier(bundle), Limits(max_files=3, workers=1))) as client:
        yield client


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Of a model that gives any number of labels; an even grey has none of them."""
    folder = tmp_path_factory.mktemp("several") / "colours"
    # The logit is at least 0: the probability is above 0.9 for a mean above 0.27 x 255.
    classifier = OnnxClassifier(write_bundle(folder, thresholds=[0.9, 0.9, 0.9]))
    with TestClient(create_app(classifier, Limits(workers=1))) as client:
        yield client


def as_base64(label: str) -> str:
    return base64.b64encode(file_of(photo(label))).decode()


def test_one_file(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(file_of(photo("red"), "PNG"))
    response = client.post("/predict", files={"file": (tmp_path / "red.png").open("rb")})
    assert response.status_code == 200
    assert response.json().keys() == {"predictions", "seconds"}
    (prediction,) = response.json()["predictions"]
    assert prediction.keys() == {"file", "label", "top_k"}
    assert prediction["file"] == "red.png"
    assert prediction["label"] == "red"
    expected = dict(zip(LABELS, softmax_of(tmp_path / "red.png")))
    given = {each["label"]: each["probability"] for each in prediction["top_k"]}
    assert given == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("path", ["/predict", "/predictions/"])
@pytest.mark.parametrize("field", ["files", "file"])
def test_several_files_are_answered_in_their_order(
    client: TestClient, path: str, field: str
) -> None:
    labels = ["blue", "red", "green"]
    files = [(field, (f"{label}.jpg", file_of(photo(label)))) for label in labels]
    predictions = client.post(path, files=files).json()["predictions"]
    assert [each["label"] for each in predictions] == labels
    assert [each["file"] for each in predictions] == [f"{label}.jpg" for label in labels]


def test_a_bad_file_among_several_is_answered_with_its_error(client: TestClient) -> None:
    contents = [file_of(photo("blue")), b"no image", file_of(photo("green"))]
    response = client.post("/predict", files=[("files", content) for content in contents])
    assert response.status_code == 200
    first, second, third = response.json()["predictions"]
    assert (first["label"], third["label"]) == ("blue", "green")
    assert second.keys() == {"file", "error"}
    assert second["error"]["code"] == "unsupported_format"


def test_base64(client: TestClient) -> None:
    images = [as_base64("green"), f"data:image/jpeg;base64,{as_base64('red')}"]
    predictions = client.post("/predict", json={"images": images}).json()["predictions"]
    assert [each["label"] for each in predictions] == ["green", "red"]


def test_the_request_of_the_flash_client(client: TestClient) -> None:
    """Its JSON as that client writes it, and its answer to the letter."""
    body = {"session": "UUID", "payload": {"inputs": {"data": as_base64("blue")}}}
    response = client.post("/predict", json=body)
    assert response.json() == {"session": "UUID", "result": {"outputs": "blue"}}


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/x-any", "application/octet-stream"])
def test_an_image_as_the_body(client: TestClient, media_type: str) -> None:
    """As `curl --data-binary` sends it. The format is told from the content."""
    content = file_of(photo("green"), "PNG")
    response = client.post("/predict", content=content, headers={"Content-Type": media_type})
    (prediction,) = response.json()["predictions"]
    assert prediction.keys() == {"label", "top_k"}
    assert prediction["label"] == "green"


def test_large_bodies_are_read_like_small_ones(client: TestClient) -> None:
    file = file_of(photo("blue", (300, 300)), "BMP")
    assert len(file) > SMALL_BODY
    in_json = client.post("/predict", json={"images": [base64.b64encode(file).decode()] * 2})
    in_form = client.post("/predict", files=[("files", file)] * 2)
    for response in (in_json, in_form):
        assert [each["label"] for each in response.json()["predictions"]] == ["blue", "blue"]
    wrong = client.post("/predict", json={"images": ["?" * SMALL_BODY]})
    assert wrong.json()["error"]["message"] == "images[0] is not base64"


@pytest.mark.parametrize("path", ["/", "/docs", "/labels", "/healthz", "/readyz", "/metrics"])
def test_head(client: TestClient, path: str) -> None:
    response = client.head(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == client.get(path).headers["content-type"]


def test_a_body_of_a_get_request(client: TestClient) -> None:
    """It is ignored, and counts for the limits."""
    assert client.request("GET", "/healthz", content=b"x" * 1000).json() == {"status": "ok"}
    large = b"x" * (Limits().max_body_bytes + 1)
    assert client.request("GET", "/healthz", content=large).status_code == 413


def test_below_a_root_path(bundle: Path) -> None:
    """Behind a proxy that shortens the path, and behind one that does not."""
    app = create_app(OnnxClassifier(bundle), Limits(workers=1), root_path="/pets")
    with TestClient(app) as client:
        for path in ("/pets/", "/", "/pets/page.js", "/page.js", "/pets/labels", "/labels"):
            assert client.get(path).status_code == 200
        assert client.get("/pets", follow_redirects=False).headers["location"].endswith("/pets/")
        for path in ("/pets/predict", "/predict"):
            response = client.post(path, files={"file": file_of(photo("red"))})
            assert response.json()["predictions"][0]["label"] == "red"
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/pets"}]
        assert (
            'allencv_requests_total{path="/predict",status="200"} 2.0'
            in client.get("/metrics").text
        )


def test_pages_of_other_origins(bundle: Path, client: TestClient) -> None:
    """Browsers let them ask where they are allowed to, and see errors and refusals too."""
    origin = {"Origin": "https://example.com"}
    assert "access-control-allow-origin" not in client.get("/labels", headers=origin).headers
    app = create_app(
        OnnxClassifier(bundle),
        Limits(max_body_bytes=10_000, workers=1),
        cors_origins=["https://example.com"],
    )
    with TestClient(app) as allowing:
        for file in (file_of(photo("red")), b"no image", bytes(20_000)):
            response = allowing.post("/predict", files={"file": file}, headers=origin)
            assert response.headers["access-control-allow-origin"] == "https://example.com"
        asked = {**origin, "Access-Control-Request-Method": "POST"}
        assert allowing.options("/predict", headers=asked).status_code == 200
        other = allowing.get("/labels", headers={"Origin": "https://example.org"})
        assert "access-control-allow-origin" not in other.headers


def test_requests_have_ids(client: TestClient) -> None:
    first, second = (client.get("/healthz").headers["x-request-id"] for _ in range(2))
    assert first != second
    given = {"X-Request-ID": "proxy-1/a"}
    assert client.get("/no/such/page", headers=given).headers["x-request-id"] == "proxy-1/a"
    for odd in ("a b", "a" * 129, 'x"', ""):
        assert client.get("/", headers={"X-Request-ID": odd}).headers["x-request-id"] != odd


def test_the_access_log(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level("INFO", "allencv.access"),
        TestClient(
            create_app(OnnxClassifier(bundle), Limits(workers=1), access_log=True)
        ) as client,
    ):
        client.get("/labels", headers={"X-Request-ID": "one"})
        client.get("/a%0Ab", headers={"X-Request-ID": "two"})
    records = [each for each in caplog.records if each.name == "allencv.access"]
    first, second = (record.getMessage() for record in records)
    assert re.fullmatch(r"testclient GET /labels 200 \d+\.\d{3} s one", first)
    assert re.fullmatch(r"testclient GET /a%0Ab 404 \d+\.\d{3} s two", second)


@pytest.mark.parametrize("path", ["/flashserve/alive", "/gridserve/alive"])
def test_alive(client: TestClient, path: str) -> None:
    assert client.get(path).json() == {"alive": True}


def test_a_model_that_gives_any_number_of_labels(several: TestClient) -> None:
    body = {"session": "UUID", "payload": {"inputs": {"data": as_base64("blue")}}}
    assert several.post("/predict", json=body).json()["result"] == {"outputs": ["blue"]}
    black = file_of(photo("red").point(lambda value: 0))
    (prediction,) = several.post("/predict", files={"file": black}).json()["predictions"]
    assert prediction["labels"] == []
    assert len(prediction["top_k"]) == 3
    about = several.get("/labels").json()
    assert about["multi_label"] is True
    assert about["thresholds"] == [0.9, 0.9, 0.9]


def test_top_k(client: TestClient) -> None:
    def listed(query: str) -> Any:
        response = client.post(f"/predict{query}", files={"file": file_of(photo("red"))})
        body = response.json()
        return body["error"] if "error" in body else len(body["predictions"][0]["top_k"])

    assert TOP_K > 3
    assert listed("") == 3
    assert listed("?top_k=2") == 2
    for wrong in ("0", "-1", "x", "1.5", "%C2%B2", "9" * 5000):
        message = "top_k is not a positive number"
        assert listed(f"?top_k={wrong}") == {"code": "bad_request", "message": message}


def test_labels(client: TestClient) -> None:
    content = client.get("/labels").json()
    assert content["name"] == "colours"
    assert content["labels"] == LABELS
    assert content["multi_label"] is False
    assert content["thresholds"] is None
    assert content["certainty"] is None
    assert content["limits"] == {"max_body_bytes": Limits().max_body_bytes, "max_files": 3}


@pytest.fixture(scope="module")
def of_calibrated(calibrated: Path) -> Iterator[TestClient]:
    with TestClient(create_app(OnnxClassifier(calibrated))) as client:
        yield client


def test_a_calibrated_model(of_calibrated: TestClient) -> None:
    files = [("files", square(color)) for color in MIXED]
    files.append(("files", file_of(photo("red"))))
    predictions = of_calibrated.post("/predict", files=files).json()["predictions"]
    unknown, unsure, two, red = ({**each, "top_k": None, "file": None} for each in predictions)
    assert unknown == {**unknown, "is_unknown": True, "is_answered": False}
    assert unsure == {**unsure, "label": "red", "is_unknown": False, "is_answered": False}
    assert two == {**two, "labels": ["red", "green"], "is_unknown": False, "is_answered": True}
    assert red == {**red, "labels": ["red"], "is_unknown": False, "is_answered": True}
    # The format of Flash's client has the label alone.
    body = {"session": "UUID", "payload": {"inputs": {"data": as_base64("red")}}}
    assert of_calibrated.post("/predict", json=body).json()["result"] == {"outputs": "red"}


def test_what_a_calibrated_model_promises(of_calibrated: TestClient) -> None:
    answer = of_calibrated.get("/labels")
    found = answer.json()["certainty"]
    assert found["images"] == 1200
    assert found["calibrates_probabilities"] is False
    assert found["sets"] == {"key": "labels", "level": 0.95, "by_class": False}
    assert found["answered"] == {
        "target_accuracy": 0.99,
        "certainty": 0.95,
        "least_confidence": 0.7,
        "coverage": 0.92,
    }
    assert found["unknown"] == {"score": "max_probability", "known_share": 0.95}
    assert found["promises"][0] == "Set of labels: for 95% of the images, the right label is in it."
    assert "photos" not in answer.text  # where the images of the calibration are
    schemas = of_calibrated.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Certainty"]["properties"].keys() == found.keys()
    (prediction,) = of_calibrated.post("/predict", files={"file": square("gold")}).json()[
        "predictions"
    ]
    assert prediction.keys() <= schemas["Prediction"]["properties"].keys()


def test_health(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_metrics(bundle: Path) -> None:
    with TestClient(create_app(OnnxClassifier(bundle), Limits(workers=1))) as client:
        for _ in range(3):
            client.post("/predict", files={"file": file_of(photo("red"))})
        client.post("/predict", files={"file": b"no image"})
        client.get("/no/such/page")
        figures = client.get("/metrics").text
    assert 'allencv_requests_total{path="/predict",status="200"} 3.0' in figures
    assert 'allencv_requests_total{path="/predict",status="415"} 1.0' in figures
    assert 'allencv_requests_total{path="other",status="404"} 1.0' in figures
    assert "allencv_request_seconds_count 4.0" in figures
    assert "allencv_batch_images_sum 3.0" in figures
    assert "allencv_waiting_images 0.0" in figures
    assert re.search(r"^process_resident_memory_bytes \d", figures, re.M)


def test_metrics_of_a_calibrated_model(calibrated: Path, bundle: Path) -> None:
    with TestClient(create_app(OnnxClassifier(calibrated))) as client:
        # One image is unknown, and one has a low confidence.
        client.post("/predict", files=[("files", square(color)) for color in MIXED])
        figures = client.get("/metrics").text
    assert "allencv_unknown_images_total 1.0" in figures
    assert "allencv_unanswered_images_total 2.0" in figures
    with TestClient(create_app(OnnxClassifier(bundle))) as client:
        figures = client.get("/metrics").text
    assert "allencv_unknown" not in figures
    assert "allencv_unanswered" not in figures


def test_open_api_names_the_routes_and_their_errors(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/predict", "/labels", "/healthz", "/readyz", "/metrics", "/drift.json"}
    predict = paths["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {
        *("multipart/form-data", "application/json", "image/*")
    }
    assert {"413", "415", "422", "429"} <= set(predict["responses"])


@pytest.mark.parametrize("path", ["/", "/docs", "/page.css", "/page.js", "/docs.js"])
def test_pages_load_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert "http:" not in response.text
    assert "https:" not in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


BAD_REQUESTS = {
    "no such page": ("GET", "/nothing", {}, 404, "not_found"),
    "method": ("GET", "/predict", {}, 405, "method_not_allowed"),
    "no content type": ("POST", "/predict", {"content": b"x"}, 415, "unsupported_media_type"),
    "form": ("POST", "/predict", {"data": {"a": "b"}}, 415, "unsupported_media_type"),
    "no file": ("POST", "/predict", {"files": {"note": (None, "text")}}, 400, "bad_request"),
    "a text": (
        *("POST", "/predict", {"files": {"file": (None, "text")}}, 415),
        "unsupported_format",
    ),
    "another field": ("POST", "/predict", {"files": {"photo": b"x"}}, 400, "bad_request"),
    "too many": ("POST", "/predict", {"files": [("files", b"x")] * 4}, 413, "too_many_files"),
    "many fields": (
        *("POST", "/predict", {"files": [("a", (None, "x"))] * 99}),
        *(400, "bad_request"),
    ),
    "list": ("POST", "/predict", {"json": [1]}, 400, "bad_request"),
    "other keys": ("POST", "/predict", {"json": {"image": "x"}}, 400, "bad_request"),
    "no images": ("POST", "/predict", {"json": {"images": []}}, 400, "bad_request"),
    "not base64": ("POST", "/predict", {"json": {"images": ["?"]}}, 400, "bad_request"),
    "no text": ("POST", "/predict", {"json": {"images": [1]}}, 400, "bad_request"),
    "too many texts": ("POST", "/predict", {"json": {"images": [""] * 4}}, 413, "too_many_files"),
    "payload": ("POST", "/predict", {"json": {"payload": {"inputs": 1}}}, 400, "bad_request"),
    "session": (
        *("POST", "/predict", {"json": {"session": [1], "payload": {"inputs": {"data": ""}}}}),
        *(400, "bad_request"),
    ),
    "long content type": (
        *("POST", "/predict", {"content": b"x", "headers": {"Content-Type": 'a/b;"' + ";" * 2000}}),
        *(400, "bad_request"),
    ),
    "compressed": (
        *("POST", "/predict", {"content": b"\x1f\x8b", "headers": {"Content-Encoding": "gzip"}}),
        *(415, "unsupported_media_type"),
    ),
    "empty body": (
        *("POST", "/predict", {"content": b"", "headers": {"Content-Type": "image/png"}}),
        *(422, "empty_file"),
    ),
    "many labels": (
        *("POST", "/predict?top_k=1001", {"files": {"file": b"x"}}),
        *(400, "bad_request"),
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_every_error_has_the_same_form(client: TestClient, case: str) -> None:
    method, path, arguments, status, code = BAD_REQUESTS[case]
    response = client.request(method, path, **arguments)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert response.json()["error"].keys() == {"code", "message"}
    assert response.json()["error"]["code"] == code


MULTIPART = "multipart/form-data; boundary=xyz"
DAMAGED = {
    "no JSON": ("application/json", b"{"),
    "deep JSON": ("application/json", b"[" * 100_000),
    "NaN": ("application/json", b'{"images": [NaN]}'),
    "Infinity": (
        "application/json",
        b'{"session": -Infinity, "payload": {"inputs": {"data": ""}}}',
    ),
    "not UTF-8": ("application/json", b'{"images": "\xff"}'),
    "no boundary": ("multipart/form-data", b"--xyz\r\n"),
    "no parts": (MULTIPART, b"nothing"),
    "empty": (MULTIPART, b""),
    "no name": (MULTIPART, b"--xyz\r\nA: b\r\n\r\nc\r\n--xyz--\r\n"),
    "headers without end": (MULTIPART, b"--xyz\r\n" + b"A: b\r\n" * 1000),
    "boundary in a line": (MULTIPART, b"--xyzabc\r\nA: b\r\n\r\nc\r\n--xyz--\r\n"),
    "long boundary": (f"multipart/form-data; boundary={'a' * 201}", b"--a\r\n"),
    "cut short": (
        MULTIPART,
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n',
    ),
    "second file cut short": (
        MULTIPART,
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--xyz'
        b'\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nab',
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_bodies(client: TestClient, case: str) -> None:
    content_type, body = DAMAGED[case]
    response = client.post("/predict", content=body, headers={"Content-Type": content_type})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_request"


@pytest.mark.parametrize("count", [1, 2])
def test_a_model_that_fails(bundle: Path, caplog: pytest.LogCaptureFixture, count: int) -> None:
    """It fails for a blank image too, so no client is to blame."""
    classifier = OnnxClassifier(bundle)

    def fail(images: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret of /home/me")

    classifier.probabilities = fail  # type: ignore[method-assign]
    with TestClient(create_app(classifier, Limits(workers=1))) as client:
        response = client.post("/predict", files=[("file", file_of(photo("red")))] * count)
        assert client.get("/healthz").status_code == 200
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "model_failed"
    assert response.headers["retry-after"] == "10"
    assert "secret" not in response.text
    assert "secret" in caplog.text


def test_reading_a_body_has_a_limit_too(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body in JSON waits for a process, as an image does."""
    monkeypatch.setattr(Decoders, "parse_json", lambda self, body: time.sleep(0.5))
    app = create_app(OnnxClassifier(bundle), Limits(answer_seconds=0.2, workers=1))
    with TestClient(app) as client:
        response = client.post("/predict", json={"images": ["A" * SMALL_BODY]})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_answer_in_time")


def test_what_fails_within_is_not_told_outside(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret of /home/me")

    monkeypatch.setattr("allencv.serving.app.readable", fail)
    with TestClient(create_app(OnnxClassifier(bundle), Limits(workers=1))) as client:
        response = client.post(
            "/predict", files={"file": file_of(photo("red"))}, headers={"X-Request-ID": "one"}
        )
        assert client.get("/healthz").status_code == 200
    assert response.status_code == 500
    assert json.loads(response.text) == {
        "error": {"code": "internal_error", "message": "the server failed"}
    }
    assert response.headers["x-request-id"] == "one"
    assert "Request one failed" in caplog.text
    assert "secret" in caplog.text


def test_serving_needs_neither_torch_nor_allennlp() -> None:
    code = "import sys, allencv.serving.app, allencv.serving.command; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in result.stdout.split()}
    assert "fastapi" in loaded
    assert not loaded & {"torch", "torchvision", "allennlp", "scipy", "sklearn"}
