"""The commands of docs/fit.md, run as they are printed."""

import re
import subprocess
from pathlib import Path
from typing import List

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.fitting import TableColumns, find_data
from tests.conftest import ROOT, write_images
from tests.forking.commands import forked_commands

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "fit.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


FIT, TRAIN, WRITE, QUICK = blocks("bash")
CHOSEN, DONE, TWO_WAYS = blocks("text")


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "text"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fit")
    for seed, (split, count) in enumerate({"train": 20, "val": 8}.items()):
        write_images(root / "pets" / split, {"cat": count, "dog": count}, seed=seed)
    write_images(root, {"posters": 12})
    rows = [f"{i:03d},{i % 2},{i // 2 % 2}" for i in range(12)]
    (root / "metadata.csv").write_text("\n".join(["Id,Action,Drama", *rows]))
    return root


def allencv(command: str, folder: Path) -> str:
    result = subprocess.run(
        ["bash", "-euc", f"PATH={forked_commands()}:$PATH\n{command}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def lines(text: str) -> List[str]:
    """Without what differs from one machine to the next."""
    numbers = r"\d+:\d\d:\d\d|\d+ of \d+|[\d.]+(?=,|$)"
    return [re.sub(numbers, "N", line) for line in text.splitlines()]


def test_the_first_command_and_what_it_says(folder: Path) -> None:
    output = allencv(f"{FIT.rstrip()} --epochs 12", folder)
    asked = r"  (epochs|early stopping) .*\n( {20,}.*\n)*"
    expected = re.sub(asked, "", CHOSEN)
    assert expected in re.sub(asked, "", output)
    assert lines(output)[-6:] == lines(DONE.replace(" Stopped early: 100 epochs were planned.", ""))
    few = '0.001, "trainer.num_epochs": 1}'
    allencv(TRAIN.replace("0.001}", few), folder)
    assert (folder / "runs" / "second" / "model.tar.gz").exists()


def test_a_table(folder: Path) -> None:
    output = allencv(WRITE, folder)
    assert "  images: {Id}.jpg in posters (--image-column, --image-root)\n" in output
    assert "  labels: the 2 columns of 0 and 1: Action, Drama (--label-column); any" in output
    assert (folder / "runs" / "posters.jsonnet").exists()


def test_data_that_can_be_understood_in_two_ways(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "posters")
    labels = ["cat|dog", *["cat", "dog"] * 5]
    rows = [f"{i:03d}.jpg,{label}" for i, label in enumerate(labels)]
    Path("labels.csv").write_text("\n".join(["image,label", *rows]))
    with pytest.raises(ConfigurationError) as error:
        find_data("labels.csv", TableColumns())
    assert f"allencv: {error.value.message}\n" == TWO_WAYS


def test_a_budget(folder: Path) -> None:
    assert QUICK.endswith("--time 20s\n")
    output = allencv(QUICK.replace("20s", "5s"), folder)
    assert re.search(r"^  epochs +\d+ +about [\d.]+ s each, in 5s$", output, re.MULTILINE)
    assert "Done in" in output
