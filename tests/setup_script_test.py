"""
What `scripts/setup` installs, with a Python in place of the real one that only notes it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

import pytest

from tests.conftest import ROOT

PYTHON = f"""#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo "made .venv" ;;
    "-m pip")
        for last; do [ "$before" = -r ] && cat "$last"; before=$last; done > installed
        echo "$@" > arguments ;;
    *) exec {sys.executable} "$@" ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("requirements.txt", "requirements-dev.txt", "scripts/setup"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def pins(file: Path) -> List[str]:
    lines = file.read_text().splitlines()
    return [line for line in lines if not line.lstrip().startswith("#")]


def set_up(clone: Path, **variables: str) -> Optional[List[str]]:
    """Return the lines of the file of requirements that pip got, or `None` if there was no call."""
    (clone / "installed").unlink(missing_ok=True)
    env = {**os.environ, "ALLENCV_PYTHON": str(clone / "python"), **variables}
    subprocess.run(["bash", "scripts/setup"], cwd=clone, env=env, check=True)
    installed = clone / "installed"
    return pins(installed) if installed.exists() else None


def test_the_environment_is_made_once(clone: Path) -> None:
    assert set_up(clone) == pins(ROOT / "requirements.txt")
    assert "--no-deps" in (clone / "arguments").read_text()
    assert set_up(clone) is None


def test_tests_add_the_development_tools(clone: Path) -> None:
    set_up(clone)
    (clone / ".venv" / "kept").touch()
    assert set_up(clone, lock="requirements-dev.txt") == pins(ROOT / "requirements-dev.txt")
    assert (clone / ".venv" / "kept").exists()
    assert set_up(clone) is None, "the demo needs less"
    assert "lock=requirements-dev.txt\nsource" in (ROOT / "scripts" / "test").read_text()


def test_another_version_makes_it_anew(clone: Path) -> None:
    set_up(clone)
    (clone / ".venv" / "old").touch()
    lock = clone / "requirements.txt"
    lock.write_text(lock.read_text().replace("allennlp==2.10.1", "allennlp==2.10.2"))
    assert "allennlp==2.10.2" in set_up(clone)
    assert not (clone / ".venv" / "old").exists()


def test_torch_for_the_cpu(clone: Path) -> None:
    found = set_up(clone, ALLENCV_TORCH="cpu")
    assert found[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    left_out = {*pins(ROOT / "requirements.txt")} - {*found}
    names = {line.partition("==")[0] for line in left_out}
    assert {"triton", "nvidia-cudnn-cu13", "cuda-toolkit"} <= names
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)
    assert any(line.startswith("torch==") for line in found)
    assert set_up(clone, ALLENCV_TORCH="cpu") is None
    assert set_up(clone) == pins(ROOT / "requirements.txt")
