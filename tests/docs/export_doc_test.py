"""The commands and the code of docs/export.md, run as they are printed."""

import csv
import json
import os
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Iterator, List

import pytest

import allencv.plugin  # noqa: F401
from allencv.commands.export import PRECISIONS
from allencv.runtime import open_bundle
from allencv.runtime.engines import ENGINES
from allencv.runtime.manifest import TOLERANCES
from tests.conftest import ROOT, Run, run_in_process, write_images
from tests.exporting.operators import read_operators_once

pytestmark = pytest.mark.slow

read_operators_once()
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


PLAIN, PARITY, INT8, HALF, OPENVINO, TORCH, WITH_TORCH = blocks("bash")
PRINTED, LITERT = blocks("text")
(CODE,) = blocks("python")


def export(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "allencv"
    run_in_process(*arguments)


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """It is the working directory, and has a run and photographs."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(trained_run, folder / "runs" / "pets")
    write_images(folder, {"photos": 6})
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    export(PLAIN)
    return folder / "pets_bundle"


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "python", "text"}


def test_a_bundle(bundle: Path, capsys: pytest.CaptureFixture) -> None:
    files = re.findall(r"^\| `([\w.]+)` \|", PAGE.split("## The comparison")[0], re.MULTILINE)
    assert sorted(os.listdir(bundle)) == sorted(files)
    export(f"{PLAIN} --force")
    given = capsys.readouterr().out.splitlines()[-2:]
    number = r"\d\S*$"
    assert [re.sub(number, "", line) for line in given] == [
        re.sub(number, "", line) for line in PRINTED.splitlines()
    ]


def test_other_images(bundle: Path) -> None:
    export(PARITY)
    parity = open_bundle(bundle).parity
    assert parity is not None
    assert (parity.images, parity.tolerance) == (6, 1e-5)


def test_the_tolerances(folder: Path) -> None:
    rows = re.findall(r"^\| (.*?) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    told = {name.strip("`").split()[-1]: (float(b), float(a)) for name, a, b in rows}
    assert {PRECISIONS.get(key, key): value for key, value in told.items()} == TOLERANCES


def test_smaller(folder: Path) -> None:
    # Six images that mean nothing to a network after one epoch: some may get another label.
    export(f"{INT8} --agreement 0")
    export(HALF)
    assert open_bundle(folder / "pets_int8").precision == "int8"
    assert open_bundle(folder / "pets_half").precision == "float16"


def test_the_engines(bundle: Path, run: Run) -> None:
    section = PAGE.split("## Engines")[1]
    told = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert told == [*ENGINES, "auto"]
    if find_spec("openvino") is None:
        pytest.skip("needs openvino")
    run(*shlex.split(OPENVINO), cwd=bundle.parent)
    with open(bundle.parent / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["error"] for row in rows} == {""}


def test_with_torch(bundle: Path, capsys: pytest.CaptureFixture) -> None:
    export(TORCH)
    capsys.readouterr()
    export(WITH_TORCH)
    with open("torch_predictions.csv", newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == [""] * 6
    capsys.readouterr()
    exec(compile(CODE, "export.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert first in ("Cat", "Dog")
    manifest = json.loads(Path("pets_torch/manifest.json").read_text())
    assert manifest["format"] == "torch_export"


def test_what_other_runtimes_take(bundle: Path) -> None:
    """The lines for LiteRT up to its converter."""
    import torch

    export(f"{TORCH} --force")
    lines = [line for line in LITERT.splitlines() if line.startswith(("network", "images"))]
    names = {"torch": torch}
    exec("\n".join(lines).replace("224", "32"), names)
    probabilities, vectors = names["network"](names["images"])  # type: ignore[operator]
    assert probabilities.shape == (1, 2)
    assert len(vectors) == 1
