"""
The commands and the code of docs/serving.md, run as they are printed, but that the server takes
another port; and the Dockerfile and the Procfile.
"""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest

from allencv.runtime import OnnxClassifier, judged, readable
from allencv.serving.limits import CONNECTION_BYTES, Limits
from tests.conftest import ROOT, write_images
from tests.forking.commands import forked_commands
from tests.runtime.certainty.certainties import everything
from tests.runtime.tiny_bundle import write_bundle

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


SERVE, CURL, CURL_BODY = blocks("bash")
ANSWER, CALIBRATED = blocks("json")
BASE64, CLIENT = blocks("python")
INSTALL, DOCKER, PROCFILE = blocks("text")


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "json", "python", "text"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pets")
    write_bundle(folder / "pets_bundle", labels=["cat", "dog", "bird"])
    write_images(folder, {"cat": 2})
    (folder / "cat" / "000.jpg").rename(folder / "photo.jpg")
    (folder / "cat" / "001.jpg").rename(folder / "other.jpg")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    program, *arguments = shlex.split(SERVE)
    assert program == "allencv"
    command = [forked_commands() / "allencv", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        words, _, address = process.stdout.readline().strip().rpartition(" ")
        assert f"`{words} http://127.0.0.1:8000`" in PAGE
        yield address
    finally:
        process.terminate()
        process.wait(20)


def output(command: List[str], folder: Path) -> str:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    ).stdout


def at(url: str, text: str) -> str:
    assert "http://127.0.0.1:8000" in text
    return text.replace("http://127.0.0.1:8000", url)


def test_curl(url: str, folder: Path) -> None:
    if not Path("/usr/bin/curl").exists():
        pytest.skip("there is no curl")
    given = json.loads(output(shlex.split(at(url, CURL)), folder))
    printed = json.loads(ANSWER)
    assert given.keys() == printed.keys()
    assert given["predictions"][0].keys() == printed["predictions"][0].keys()
    assert given["predictions"][0]["label"] == printed["predictions"][0]["label"]


def test_the_answer_of_a_calibrated_model(tmp_path: Path) -> None:
    labels = ["cat", "lynx", "dog"]
    classifier = OnnxClassifier(write_bundle(tmp_path / "bundle", labels, None, everything()))
    (judgement,) = judged(classifier, np.zeros((1, 16, 16, 3), np.uint8))
    printed = json.loads(CALIBRATED)
    assert list(printed) == ["file", *readable(classifier, judgement)]


def test_curl_of_a_body(url: str, folder: Path) -> None:
    if not Path("/usr/bin/curl").exists():
        pytest.skip("there is no curl")
    given = json.loads(output(shlex.split(at(url, CURL_BODY)), folder))
    assert given["predictions"][0]["label"] == "cat"


def test_base64(url: str, folder: Path) -> None:
    assert output([sys.executable, "-c", at(url, BASE64)], folder) == "cat\n"


def test_client(url: str, folder: Path) -> None:
    first, *answers = output([sys.executable, "-c", at(url, CLIENT)], folder).splitlines()
    assert first == "['cat', 'dog', 'bird']"
    assert [each.split()[:2] for each in answers] == [["photo.jpg", "cat"], ["other.jpg", "cat"]]


def test_the_limits_are_those_of_the_server() -> None:
    table = dict(re.findall(r"^\| (.*?) \| (.*?) \|", PAGE.split("## Limits")[1], re.MULTILINE))
    limits = Limits()
    expected = {
        "waiting images; then 429": f"{limits.max_waiting}",
        "images per batch of a thread": f"{limits.max_batch}",
        "images per request": f"{limits.max_files}",
        "bytes per request": f"{limits.max_body_bytes // 2**20} MB",
        "bytes of all open requests; then 429": f"{limits.max_pending_bytes // 2**20} MB",
        "pixels of a JPEG": f"{limits.max_pixels // 10**6} million",
        "pixels of another format": f"{limits.max_other_pixels // 10**6} million",
        "seconds of CPU time to decode an image; then 422": f"{limits.decode_seconds:g}",
        "open connections; then 503": f"{limits.max_connections}",
        "seconds for a body to arrive, and for the answer": f"{limits.body_seconds:g}",
    }
    assert {key: table[key] for key in expected} == expected
    assert limits.body_seconds == limits.answer_seconds
    assert len(fields(Limits)) == len(expected) + 2  # the workers, and the second of two times


def test_the_memory_is_that_of_the_limits() -> None:
    limits = Limits(workers=2)
    assert f"{2 * limits.max_pending_bytes / 1e6:.0f} MB for the bodies" in PAGE
    assert f"{limits.max_connections * CONNECTION_BYTES / 1e6:.0f} MB" in PAGE
    assert f"{limits.small_image_bytes / 1e6:.0f} MB for each process" in PAGE
    assert f"{16 * limits.max_pixels / 1e6:.0f} MB. Of images larger" in PAGE
    assert f"two workers these are {limits.memory_bytes / 1e9:.1f} GB" in PAGE
    small = Limits(workers=1, max_pixels=12_000_000, max_body_bytes=2**23, max_connections=64)
    assert f"bounds the sum to {small.memory_bytes / 1e9:.1f} GB" in PAGE


def test_every_option_of_the_page_is_one() -> None:
    command = [forked_commands() / "allencv", "serve", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    options = set(re.findall(r"`(--[a-z-]+)`", PAGE))
    assert len(options) > 5
    assert options <= set(re.findall(r"--[a-z-]+", text))


def test_every_code_is_in_the_table() -> None:
    """Each that the server's source has."""
    code = "".join(file.read_text() for file in (ROOT / "allencv" / "serving").glob("*.py"))
    raised = set(re.findall(r'\d{3},\s*"([a-z_]+)"', code))
    assert len(raised) > 8
    assert raised <= set(re.findall(r"`([a-z_]+)`", PAGE))


def test_the_files_for_hosts() -> None:
    assert (ROOT / "Procfile").read_text() == PROCFILE
    dockerfile = (ROOT / "Dockerfile").read_text()
    for line in DOCKER.splitlines():
        assert f"#     {line}\n" in dockerfile
    assert INSTALL.strip() == "pip install --no-deps -r requirements-serve.txt ."
    assert "--no-deps -r requirements-serve.txt ." in dockerfile
    for pattern in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE):
        needed = set(pattern.split()) - {"bundle", "requirements-serve.txt"}
        assert all((ROOT / name).exists() for name in needed)
