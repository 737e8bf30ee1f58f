"""The commands of docs/review.md, run as they are printed."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import List

import pytest

import allencv
from allencv.data.corrections import LABEL, NONE, as_line, columns, read_corrections
from allencv.reviewing import server
from allencv.reviewing.session import ReviewSession
from tests.configs import experiment
from tests.conftest import ROOT, run_in_process

PAGE = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


REVIEW, TRAIN = blocks("bash")
PRINTED, FILE = blocks("text")
(CONFIG,) = blocks("jsonnet")


@pytest.fixture
def folder(
    trained_run: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", "cache")
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            shutil.copytree(cats_and_dogs / split / label.capitalize(), f"pets/{split}/{label}")
    shutil.copytree(cats_and_dogs / "test" / "Cat", "new_photos")
    shutil.move("pets/train/dog/000.jpg", "pets/train/cat/wrong.jpg")
    shutil.copytree(trained_run, "runs/first")
    config = experiment(Path("pets"), trainer__num_epochs=1)
    Path("runs/first.jsonnet").write_text(json.dumps(config))
    Path("second.jsonnet").write_text(CONFIG)
    return tmp_path


def test_the_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def person(session: ReviewSession, port: int) -> None:
        """Answer all: dogs are green, and the first image without a label is none of both."""
        has_dropped = False
        for place, queued in enumerate(session.queue):
            labels = queued.picture.labels
            if labels is None and not has_dropped:
                session.answer(place, NONE, [])
                has_dropped = True
            else:
                label = "dog" if "wrong" in queued.picture.name else (labels or ["cat"])[0]
                session.answer(place, LABEL, [session.labels.index(label)])

    monkeypatch.setattr(server, "serve_review", person)
    run_in_process(*shlex.split(REVIEW)[1:])
    said = capsys.readouterr().out
    for line in PRINTED.splitlines()[:2]:
        assert line in said
    assert re.search(
        r"^In order: \d+ images? whose label may be wrong, 4 images without", said, re.M
    )
    answers = read_corrections("corrections.csv", "").of_images
    assert f"corrections.csv: {len(answers)} new answers, no images left" in said
    assert [row.split(",")[1] for row in FILE.splitlines()[1:]] == [
        "label",
        "label",
        "none",
        "label",
    ]
    assert FILE.splitlines()[0] + "\n" == as_line(columns(False))

    run_in_process(*shlex.split(TRAIN)[1:])
    assert sorted(allencv.load("runs/second/model.tar.gz").labels) == ["cat", "dog"]


def test_the_keys_of_the_reader() -> None:
    from allencv.data.dataset_readers.corrected_reader import CHOICES

    table = re.findall(r'^\| `(\w+)` \| `"(\w+)"` \|.*?`"(\w+)"`', PAGE, re.MULTILINE)
    assert {key: (default, other) for key, default, other in table} == CHOICES
