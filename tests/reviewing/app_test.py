import io
import os
from pathlib import Path

import httpx
from PIL import Image

from allencv.data.corrections import read_corrections
from tests.reviewing.reviews import client_of, make_session


def test_a_review_over_http(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    with client_of(session) as client:
        assert client.get("session").json() == session.as_json()
        assert client.get("view").json()["image"]["place"] == 0
        answer = {"image": 0, "answer": "label", "labels": [2]}
        assert client.post("answers", json=answer).json()["image"]["place"] == 1
        # The file has it before the answer comes.
        saved = read_corrections(str(tmp_path / "corrections.csv"), "").of_images
        assert [each.labels for each in saved.values()] == [("fox",)]
        again = client.post("answers", json=answer)
        assert (again.status_code, again.json()["error"]["code"]) == (409, "answered_already")
        skipped = client.post("answers", json={"image": 1, "answer": "skip"}).json()
        assert (skipped["image"]["place"], skipped["answered"]) == (2, 1)
        assert client.post("undo").json()["image"]["place"] == 1
        assert client.post("undo").json()["can_undo"] is False


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    with client_of(make_session(tmp_path)) as client:
        for name in ("", "review.css", "review.js", "page.css", "elements.js", "favicon.svg"):
            response = client.get(name)
            assert response.status_code == 200
            assert "default-src 'none'" in response.headers["content-security-policy"]
            assert "https://" not in response.text
        assert client.get("openapi.json").status_code == 404


def test_pictures(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    Image.new("RGBA", (3000, 1500), (255, 0, 0, 128)).save(tmp_path / "new" / "large.png")
    picture = session.queue[1].picture._replace(source=str(tmp_path / "new" / "large.png"))
    session.queue[1].picture = picture
    session.labelled[1] = picture._replace(source=lambda: (tmp_path / "new/000.jpg").read_bytes())
    with client_of(session) as client:
        for path, size in (("images/1", (1024, 512)), ("similar/1", None)):
            response = client.get(path)
            assert response.headers["content-type"] == "image/jpeg"
            image = Image.open(io.BytesIO(response.content))
            assert size is None or image.size == size
        os.remove(tmp_path / "new" / "large.png")
        gone = client.get("images/1")
        assert gone.status_code == 404
        assert "large.png: No such file" in gone.json()["error"]["message"]
        for path in ("images/4", "images/-1", "similar/2", "images/../../etc/passwd"):
            assert client.get(path).status_code == 404


def test_only_who_knows_the_address(tmp_path: Path) -> None:
    with client_of(make_session(tmp_path)) as client:
        assert client.base_url.host == "127.0.0.1"
        assert len(client.base_url.path.strip("/")) >= 20
        root = f"http://127.0.0.1:{client.base_url.port}"
        for path in ("/", "/view", "/session", "/images/0", "/docs", "/openapi.json"):
            assert httpx.get(root + path).status_code == 404
        # A page of another host, whose name was made to point here
        assert client.get("view", headers={"host": "evil.example"}).status_code == 400
        assert client.get("view", headers={"host": "localhost:1"}).status_code == 200


def test_requests_that_are_refused(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    with client_of(session) as client:
        for content in (
            {"image": 0, "answer": "maybe"},
            {"image": "x", "answer": "none"},
            {"image": 0, "answer": "none", "more": 1},
            {"image": 0},
            {"image": 9, "answer": "none"},
            {"image": 0, "answer": "label", "labels": [7]},
        ):
            response = client.post("answers", json=content)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_request")
        assert client.post("answers", content=b" " * (2**20 + 1)).status_code == 413
        assert session.answered == 0


def test_an_answer_that_cannot_be_saved(tmp_path: Path) -> None:
    session = make_session(tmp_path)
    with client_of(session) as client:
        (tmp_path / "corrections.csv").write_text("something else")
        for response in (
            client.post("answers", json={"image": 0, "answer": "none"}),
            client.post("answers", json={"image": 0, "answer": "label", "labels": [0]}),
        ):
            assert response.status_code == 500
            message = response.json()["error"]["message"]
            assert message.startswith("the answer was not saved: '")
            assert message.endswith("stop this command and start it again")
        assert client.get("view").json()["image"]["place"] == 0
