"""
The commands and the code of docs/tutorial_scenes.md, run as printed, on small data and with a small
network, but that the server takes another port; and the files for hosts.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import allencv.plugin  # noqa: F401
from allencv.runtime import open_bundle
from tests.conftest import ROOT
from tests.forking.commands import forked_commands
from tests.recipes import DATA, SCENES, run_here

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial_scenes.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text.replace("\\\n", "") for text in found]


CHECK, TRAIN, EVALUATE, CLASSIFY, LOOK, EXPORT, SERVE, CURL = blocks("bash")
CHECKED, CONFUSED, COMPARED, INSTALL, DOCKER, PROCFILE = blocks("text")
METRICS, ANSWER = map(json.loads, blocks("json"))
(CODE,) = blocks("python")
(FORM,) = blocks("html")
SMALL: Dict[str, Any] = {
    "model.im2im_encoder": {"type": "small_resnet", "widths": [8, 16]},
    "model.im2vec_encoder": {"type": "pooling", "input_channels": 16},
    "dataset_reader.transforms.0.size": 32,
    "validation_dataset_reader.transforms.0.size": 32,
    "data_loader.batch_size": 4,
    "trainer.num_epochs": 1,
    "trainer.learning_rate_scheduler.warmup_epochs": 0.5,
}


def test_every_language_is_tested() -> None:
    languages = {"bash", "html", "json", "python", "text"}
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == languages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    data, write = DATA["intel_scenes"]
    write(folder / data)
    return folder


@pytest.fixture(scope="module")
def run_folder(folder: Path) -> Path:
    """Trained once, for all that follows."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(TRAIN, folder, monkeypatch, **SMALL)
    return folder / "runs" / "intel"


@pytest.fixture(scope="module")
def bundle(folder: Path, run_folder: Path) -> Path:
    # A network of one epoch is sure of nothing: some images may get another label.
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_here(f"{EXPORT} --agreement 0", folder, monkeypatch)
    return folder / "bundle"


def test_check_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sea = folder / "data" / "intel" / "seg_train" / "seg_train" / "sea"
    shutil.copy(sea / "003.jpg", sea / "copy.jpg")
    run_here(CHECK, folder, monkeypatch)
    (sea / "copy.jpg").unlink()
    given = capsys.readouterr().out
    heading, _, _, _, *warning = CHECKED.splitlines()
    assert heading.split() in [line.split() for line in given.splitlines()]
    shown = re.search(r"warning.*?\n\n", given, re.DOTALL)
    assert shown is not None
    parts = [re.sub("(train|validation): ", "", line) for line in shown[0].splitlines()]
    told = [re.sub("(train|validation): ", "", line) for line in warning]
    assert [line for line in parts if line in told] == told
    assert (folder / "scenes_data" / "data.html").exists()


def test_evaluate(folder: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_here(EVALUATE, folder, monkeypatch)
    metrics = json.loads((folder / "test.json").read_text())
    confused = [name for name in metrics if name.startswith("_confused_")]
    assert len(confused) <= 3
    for name in confused:
        assert re.fullmatch(rf"_confused_({'|'.join(SCENES)})_as_({'|'.join(SCENES)})", name)
    told = {name for name in METRICS if not name.startswith("_confused_")}
    assert told <= set(metrics)
    assert sum(metrics[f"each_{scene}_support"] for scene in SCENES) == 24


def test_the_confusions(
    folder: Path,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    run_here(EVALUATE, folder, monkeypatch)
    run_here(CLASSIFY, folder, monkeypatch)
    capsys.readouterr()
    exec(compile(CODE, "tutorial_scenes.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    form = r"data/intel/seg_test/seg_test/\w+/\d+\.jpg is taken for \w+ \(\d+%\)"
    assert all(re.fullmatch(form, line) for line in [*lines, *CONFUSED.splitlines()])
    accuracy = json.loads((folder / "test.json").read_text())["accuracy"]
    assert len(lines) == round(24 * (1 - accuracy))


def test_explain_and_report(
    folder: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in LOOK.splitlines():
        run_here(command, folder, monkeypatch)
    assert (folder / "cam.png").stat().st_size > 0
    assert "glacier" in (folder / "scenes.html").read_text(encoding="utf-8")


def test_export(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.precision == "int8"
    assert opened.parity is not None
    assert opened.parity.images == 24
    assert re.fullmatch(r"bundle: onnx, int8, 6 labels", COMPARED.splitlines()[0])


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    program, *arguments = shlex.split(SERVE)
    assert program == "allencv"
    process = subprocess.Popen(
        [forked_commands() / "allencv", *arguments, "--port", "0"],
        cwd=bundle.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(20)


def test_the_page_and_the_form(url: str, folder: Path) -> None:
    with urllib.request.urlopen(url) as page:
        assert b"<!doctype html>" in page.read()[:40]
    shutil.copy(folder / "data/intel/seg_test/seg_test/sea/000.jpg", folder / "beach.jpg")
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    command = shlex.split(CURL.replace("http://127.0.0.1:8000", url))
    command[1:1] = ["-sS"]
    given = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    answer = json.loads(given.stdout)
    assert answer.keys() == ANSWER.keys()
    (prediction,) = answer["predictions"]
    assert prediction.keys() == ANSWER["predictions"][0].keys()
    assert prediction["file"] == "beach.jpg"
    assert prediction["label"] in SCENES


def test_the_html_form_posts_what_curl_posts() -> None:
    found: Dict[str, Dict[str, Any]] = {}
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.update({tag: dict(attrs)})  # type: ignore
    parser.feed(FORM)
    *_, field, address = shlex.split(CURL)
    assert found["form"]["action"] == address
    assert found["form"]["method"] == "post"
    assert found["form"]["enctype"] == "multipart/form-data"
    assert found["input"]["name"] == field.split("=")[0]


def test_the_files_for_hosts() -> None:
    assert (ROOT / "Procfile").read_text() == PROCFILE
    assert INSTALL.strip() == "pip install --no-deps -r requirements-serve.txt ."
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "--no-deps -r requirements-serve.txt ." in dockerfile
    assert "COPY bundle bundle" in dockerfile
    assert DOCKER.replace("scenes", "pets").splitlines() == [
        line.removeprefix("#").strip()
        for line in dockerfile.splitlines()
        if line.startswith("#     docker")
    ]
    command = [forked_commands() / "allencv", "serve", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    host = PAGE.split("## Put it on a small host")[1]
    options = set(re.findall(r"--(?:max-megapixels|workers|host|port)\b", host))
    assert len(options) == 4
    assert options <= set(re.findall(r"--[a-z][a-z-]+", text))
