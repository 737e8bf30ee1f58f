"""The commands and the code of docs/report.md, run as they are printed."""

import re
import shlex
from pathlib import Path
from typing import List

import pytest

import allencv.plugin
from tests.conftest import ROOT, run_in_process, write_images

PAGE = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def allencv(command: str) -> None:
    """Runs a command in this process, as starting another takes seconds."""
    program, *arguments = shlex.split(command)
    assert program == "allencv"
    run_in_process(*arguments)


def test_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, split in enumerate(("train", "val", "test")):
        write_images(tmp_path / "pets" / split, {"cat": 6, "dog": 6}, seed=seed)
    (config,) = blocks("jsonnet")
    (tmp_path / "pets.jsonnet").write_text(config)
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    first, similar, evaluate, explain = blocks("bash")
    train, report = first.splitlines()
    allencv(train)
    found = sorted(path.name for path in (tmp_path / "runs" / "pets" / "predictions").iterdir())
    assert found == ["run.json", "validation.npz"]
    allencv(report)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Validation: 12 images" in page
    allencv(similar)
    said = capsys.readouterr().out
    if "There are no mistakes" in page:
        assert "no similar images: the run has no pictures of mistakes" in said
    else:
        assert "similar images: of 12 training images" in said
    (tmp_path / "report.html").unlink()

    for command in [*evaluate.splitlines(), *explain.splitlines()]:
        allencv(command)
    for name in ("report.html", "runs/pets/report.html", "cam.png", "dog.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "Test: 12 images" in (tmp_path / "runs/pets/report.html").read_text(encoding="utf-8")

    capsys.readouterr()
    notebook, code = blocks("python")
    saved = (tmp_path / "runs/pets/report.html").read_text(encoding="utf-8")
    exec(notebook, {})
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == saved
    exec(code, {})
    mistakes = capsys.readouterr().out.splitlines()
    assert all(" is taken for " in line for line in mistakes)
    assert (
        f"{len(mistakes)} of 12 images are classified wrongly" in " ".join(page.split())
        or not mistakes
    )


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists()
