"""
The commands and the code of docs/tutorial_movie_posters.md, in their order, on the posters that it
draws; the large network is replaced, and the server takes another port.
"""

import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

import allencv.plugin  # noqa: F401
from allencv.serving.client import Client
from tests.conftest import ROOT, Run
from tests.forking.commands import forked_commands
from tests.recipes import run_here

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "tutorial_movie_posters.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


VARIABLES_AND_CHECK, FILMS, TRAIN, WEIGHTED, EXPORT_AND_CLASSIFY, OTHER_THRESHOLDS, SERVE = blocks(
    "bash"
)
DRAW, LABELS = blocks("python")
TABLE, CHECKED, METRICS, LABEL_METRICS, ANSWERS = blocks("text")
(READER,) = blocks("jsonnet")
VARIABLES, CHECK = VARIABLES_AND_CHECK.splitlines()


@pytest.fixture(scope="module")
def patch() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("posters")
    patch.chdir(folder)
    exec(compile(DRAW, "draw_posters.py", "exec"), {})
    program, *assigned = shlex.split(VARIABLES)
    assert program == "export"
    for each in assigned:
        patch.setenv(*each.split("=", 1))
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    run_here(TRAIN, folder, patch, **{"trainer.num_epochs": 2})  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def rows(trained: Path, patch: pytest.MonkeyPatch, run: Run) -> "List[Dict[str, str]]":
    export, classify = EXPORT_AND_CLASSIFY.splitlines()
    run_here(export, trained, patch)
    (trained / "new").mkdir()
    for number in (0, 10, 20):
        shutil.copy(trained / f"data/posters/images/tt{number:07d}.jpg", trained / "new")
    run(*shlex.split(classify), cwd=trained)
    return read_csv(trained / "genres.csv")


def read_csv(path: Path) -> "List[Dict[str, str]]":
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_language_is_tested() -> None:
    languages = set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE))
    assert languages == {"bash", "jsonnet", "python", "text"}


def test_the_drawn_table(folder: Path, patch: pytest.MonkeyPatch, capsys: Any) -> None:
    table = (folder / "data/posters/metadata.csv").read_text()
    assert table.startswith(TABLE.removesuffix("...\n"))
    run_here(CHECK, folder, patch)
    printed = capsys.readouterr().out
    for line in CHECKED.splitlines():
        assert line == "..." or re.sub(r" in [\d.]+ s", "", line) in re.sub(
            r" in [\d.]+ s", "", printed
        )


def test_the_reader_is_that_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "reader.jsonnet").write_text(READER)
    reader = Params.from_file(tmp_path / "reader.jsonnet").as_dict()
    variables = {"DATA": "data/posters", "WEIGHTS": "null"}
    config = Params.from_file(ROOT / "training_config/movie_posters.jsonnet", "", variables)
    given = config["dataset_reader"].as_dict()
    del given["transforms"]
    assert reader == given
    assert config["model"]["thresholds"] == "tune"
    assert config["model"]["loss"]["type"] == "asymmetric"
    assert config["trainer"]["validation_metric"] == "+mAP"


def test_the_metrics(trained: Path) -> None:
    metrics = json.loads((trained / "runs/posters/metrics.json").read_text())
    printed = json.loads("{" + METRICS.strip().removesuffix(",") + "}")
    assert printed.keys() <= metrics.keys()
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert [f"best_validation_{name}" for name in named] == list(printed)[1:]


@pytest.mark.exhaustive
def test_the_metrics_of_the_whole_training(
    trained: Path, folder: Path, patch: pytest.MonkeyPatch
) -> None:
    run_here(TRAIN.replace("runs/posters", "runs/whole"), folder, patch)
    metrics = json.loads((folder / "runs/whole/metrics.json").read_text())
    printed = json.loads("{" + METRICS.strip().removesuffix(",") + "}")
    # Machines round differently, and 15 epochs make much of it.
    assert metrics["best_validation_mAP"] == pytest.approx(printed["best_validation_mAP"], abs=0.1)


def test_the_labels(trained: Path, capsys: pytest.CaptureFixture) -> None:
    exec(compile(LABELS, "tutorial_movie_posters.md", "exec"), {})
    given = capsys.readouterr().out.splitlines()[-3:]
    for line, printed in zip(given, LABEL_METRICS.splitlines(), strict=True):
        label, _, numbers = line.partition(" ")
        expected_label, _, expected = printed.partition(" ")
        assert label == expected_label
        assert eval(numbers).keys() == eval(expected).keys()
        assert eval(numbers)["support"] == eval(expected)["support"]


def test_films(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The network of the config, shallower, for an epoch on images of a poster's shape."""
    small = {
        "model.im2im_encoder.resnet_model": "resnet18",
        "model.im2vec_encoder.input_channels": 512,
        "dataset_reader.transforms.0.size": [48, 32],
        "validation_dataset_reader.transforms.0.size": [48, 32],
        "dataset_reader.max_instances": 32,
        "trainer.num_epochs": 1,
    }
    with pytest.MonkeyPatch.context() as inner:  # WEIGHTS is for this command alone
        run_here(FILMS, folder, inner, **small)  # type: ignore[arg-type]
    assert (folder / "runs/films/model.tar.gz").is_file()


def test_weights_for_rare_labels(trained: Path, patch: pytest.MonkeyPatch) -> None:
    run_here(WEIGHTED, trained, patch, **{"trainer.num_epochs": 1})  # type: ignore[arg-type]
    config = json.loads((trained / "runs/weighted/config.json").read_text())
    assert config["model"]["loss"] == {"type": "binary_cross_entropy"}
    assert config["model"]["class_weights"] == {"type": "square_root"}


def test_drawing_rare_labels_more_often_is_refused(trained: Path) -> None:
    assert "and is refused here" in PAGE.replace("\n", " ")
    config = Params.from_file(
        trained / "runs/posters/config.json",
        '{"data_loader.class_weighting": {"type": "square_root"}}',
    )
    with pytest.raises(ConfigurationError, match="gives each image one label"):
        train_model(config, trained / "runs/refused")


def test_classify(rows: Any) -> None:
    assert list(rows[0]) == ANSWERS.splitlines()[0].split(",")
    printed = [line.split(",")[0] for line in ANSWERS.splitlines()[1:] if line != "..."]
    assert set(printed) <= {row["path"] for row in rows}
    assert {row["error"] for row in rows} == {""}


def test_other_thresholds(rows: Any, trained: Path, run: Run) -> None:
    echo, classify = OTHER_THRESHOLDS.splitlines()
    subprocess.run(["bash", "-ec", echo], cwd=trained, check=True)
    run(*shlex.split(classify), cwd=trained)
    for row in read_csv(trained / "more.csv"):
        by_label = {row[f"label_{rank}"]: float(row[f"probability_{rank}"]) for rank in (1, 2, 3)}
        assert ("Drama" in row["labels"].split("|")) == (by_label["Drama"] > 0.5)


def test_serve(rows: Any, trained: Path) -> None:
    program, *arguments = shlex.split(SERVE)
    assert program == "allencv"
    process = subprocess.Popen(
        [forked_commands() / "allencv", *arguments, "--port", "0"],
        cwd=trained,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        answers = Client(url).predict([trained / row["path"] for row in rows])
    finally:
        process.terminate()
        process.wait(20)
    assert ["|".join(answer["labels"]) for answer in answers] == [row["labels"] for row in rows]
