"""The commands of docs/quick.md, run as they are printed."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_in_process

PAGE = (ROOT / "docs" / "quick.md").read_text(encoding="utf-8")
EMBED, BUNDLE, READ = (
    found[1] for found in re.finditer(r"^```(?:bash|python)\n(.*?)^```$", PAGE, re.DOTALL | re.M)
)


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
    for command in (EMBED + BUNDLE).splitlines():
        run_in_process(*shlex.split(command)[1:])
    capsys.readouterr()
    exec(READ, {})
    name, label, shape = re.fullmatch(
        r"(\S+) (\S+) \((\d+, \d+)\)\n", capsys.readouterr().out
    ).groups()
    assert name.startswith(f"pets/train/{label}/")
    assert shape.split(", ")[0] == str(len(list(Path("pets/train").glob("*/*.jpg"))))
