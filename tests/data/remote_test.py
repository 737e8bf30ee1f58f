import pickle
import zipfile
from pathlib import Path

import pytest

from allencv.data import remote
from allencv.data.remote import RemoteImage
from allencv.runtime import ImageError


@pytest.mark.parametrize(
    ("folder", "path", "joined"),
    [
        ("", "a.jpg", "a.jpg"),
        ("x", "b/a.jpg", "x/b/a.jpg"),
        ("x", "/a.jpg", "/a.jpg"),
        ("x", "s3://b/a.jpg", "s3://b/a.jpg"),
        ("s3://b", "a.jpg", "s3://b/a.jpg"),
        ("s3://b/x/", "a.jpg", "s3://b/x/a.jpg"),
        ("s3://b", "/a.jpg", "/a.jpg"),
        ("memory://", "a.jpg", "memory://a.jpg"),
        ("zip://::s3://b/c.zip", "a.jpg", "zip://a.jpg::s3://b/c.zip"),
        ("zip://x::s3://b/c.zip", "a.jpg", "zip://x/a.jpg::s3://b/c.zip"),
    ],
)
def test_join_and_parent(folder: str, path: str, joined: str) -> None:
    assert remote.join(folder, path) == joined
    if path == "a.jpg":
        assert remote.parent(joined) == folder.rstrip("/") or folder.endswith("://")


def test_parent_of_a_file_at_the_top() -> None:
    assert remote.parent("memory://a.csv") == "memory://"
    assert remote.parent("zip://a.csv::s3://b/c.zip") == "zip://::s3://b/c.zip"
    assert remote.parent("a.csv") == ""


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert remote.expand(Path("~/a")) == "/home/me/a"
    assert remote.join("x", "~/a") == "/home/me/a"
    assert remote.expand("s3://~/a") == "s3://~/a"


def test_an_image_in_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x/a.jpg", b"pixels")
    url = f"zip://x/a.jpg::file://{tmp_path}/a.zip"
    image = pickle.loads(pickle.dumps(RemoteImage(url)))
    assert image == RemoteImage(url)
    assert str(image) == url
    assert image() == b"pixels"
    assert remote.exists(url)
    assert not remote.exists(url.replace("a.jpg", "b.jpg"))
    with pytest.raises(ImageError, match=r"^cannot be fetched \(.*x/b\.jpg"):
        RemoteImage(url.replace("a.jpg", "b.jpg"))()


def test_http_goes_through_allennlps_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cached").write_bytes(b"pixels")

    def cached_path(url: str) -> str:
        if "missing" in url:
            raise FileNotFoundError("404")
        return str(tmp_path / "cached")

    monkeypatch.setattr(remote, "cached_path", cached_path)
    assert RemoteImage("https://x/a.jpg")() == b"pixels"
    assert remote.exists("https://x/a.jpg")
    assert not remote.exists("https://x/missing.jpg")
    with pytest.raises(ImageError, match=r"^cannot be fetched \(404\)$"):
        RemoteImage("https://x/missing.jpg")()
