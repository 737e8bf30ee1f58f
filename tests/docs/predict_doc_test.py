"""The commands and the code of docs/predict.md, run as they are printed."""

import argparse
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

import allencv.plugin  # noqa: F401
from allencv.classify.arguments import add_arguments
from allencv.classify.command import run as run_classify
from allencv.classify.output_files import columns
from allencv.classify.printed_answers import single_answer
from tests.conftest import ROOT, Run, write_images
from tests.runtime.certainty.certainties import everything
from tests.runtime.tiny_bundle import write_bundle

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


ONE, ARCHIVE, EXPORT, SEVERAL, PIPED, THRESHOLDS, FAILS, SHARDS = blocks("bash")
ANSWERS, GENRES = blocks("json")
TERMINAL, CALIBRATED, PRINTED, SLURM, RAY, RAY_CLUSTER, INSTALL = blocks("text")


def read_csv(path: Path) -> List[Dict[str, Any]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    shutil.copytree(trained_run, folder / "runs" / "pets")
    write_images(folder, {"photos": 7})
    (folder / "photos" / "000.jpg").rename(folder / "photos" / "a.jpg")
    (folder / "photos" / "b.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def predictions(folder: Path, run: Run) -> List[Dict[str, Any]]:
    run(*shlex.split(ARCHIVE), cwd=folder)
    return read_csv(folder / "predictions.csv")


@pytest.fixture(scope="module")
def exported(folder: Path, predictions: List[Dict[str, Any]], run: Run) -> List[Dict[str, Any]]:
    (folder / "predictions.csv").unlink()
    for line in EXPORT.splitlines():
        run(*shlex.split(line), cwd=folder)
    return read_csv(folder / "predictions.csv")


def test_every_language_is_tested() -> None:
    assert set(re.findall(r"^```(\w+)", PAGE, re.MULTILINE)) == {"bash", "json", "python", "text"}


def test_one_photo(predictions: List[Dict[str, Any]], folder: Path, run: Run) -> None:
    shutil.copy(folder / "photos" / "a.jpg", folder / "photos" / "rex.jpg")
    (given,) = csv.DictReader(run(*shlex.split(ONE), cwd=folder).stdout.splitlines())
    (folder / "photos" / "rex.jpg").unlink()
    (expected,) = [row for row in predictions if row["path"] == "photos/a.jpg"]
    assert given == {**expected, "path": "photos/rex.jpg"}
    ranked = [{"label": "dog", "probability": 0.961}, {"label": "cat", "probability": 0.039}]
    record: Any = {"path": "photos/rex.jpg", "label": "dog", "top_k": ranked}
    assert single_answer(record, 80) == TERMINAL.splitlines()


def test_paths_of_standard_input(
    exported: List[Dict[str, Any]],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(folder)
    find, classify = PIPED.split(" | ")
    classify, output = classify.split(" > ")
    assert output == "predictions.jsonl\n"
    found = subprocess.run(shlex.split(find), capture_output=True, check=True).stdout
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(found)))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    run_classify(parser.parse_args(shlex.split(classify)[2:]))
    records = map(json.loads, capsys.readouterr().out.splitlines())
    labels = {record["path"]: record.get("label", "") for record in records}
    assert labels == {row["path"]: row["label"] for row in exported}


def test_an_archive(predictions: List[Dict[str, Any]]) -> None:
    names = ["001", "002", "003", "004", "005", "006", "a", "b"]
    assert [row["path"] for row in predictions] == [f"photos/{name}.jpg" for name in names]
    assert list(predictions[0]) == list(columns(["Cat", "Dog"], False, 2, False))
    (error,) = [row["error"] for row in predictions if row["error"]]
    assert error == json.loads(ANSWERS.splitlines()[1])["error"]


def test_a_bundle(predictions: List[Dict[str, Any]], exported: List[Dict[str, Any]]) -> None:
    for row, other in zip(predictions, exported, strict=True):
        assert (row["path"], row["label"], row["error"]) == (
            *(other["path"], other["label"], other["error"]),
        )
        if not row["error"]:
            assert float(row["probability"]) == pytest.approx(float(other["probability"]), abs=1e-4)


def test_a_bad_image(exported: Any, folder: Path, run: Run) -> None:
    result = run(*shlex.split(FAILS), cwd=folder, fails=True)
    assert (result.stdout, result.stderr) == ("", PRINTED)


def test_shards(exported: Any, folder: Path, run: Run) -> None:
    run(*shlex.split(EXPORT.splitlines()[1]), cwd=folder)
    expected = (folder / "predictions.csv").read_bytes()
    (folder / "predictions.csv").unlink()
    for line in SHARDS.splitlines():
        said = run(*shlex.split(line), cwd=folder).stdout
    assert said == "predictions.csv: 8 images of 2 parts\n"
    assert (folder / "predictions.csv").read_bytes() == expected
    array, job = SLURM.splitlines()
    assert array.endswith("1-16")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(shlex.split(job.replace("$SLURM_ARRAY_TASK_ID", "3"))[2:])
    assert (args.output, args.shard) == ("part-3.csv", "3/16")


def test_the_commands_for_ray_are_parsed() -> None:
    """tests/classify/on_ray_test.py runs such ones."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert parser.parse_args(shlex.split(RAY)[2:]).parallel == 4
    address, *command = shlex.split(RAY_CLUSTER)
    assert address == "RAY_ADDRESS=head:6379"
    assert parser.parse_args(command[2:]).on == "ray"


def test_what_an_installation_without_torch_has() -> None:
    """tests/commands/slim_test.py runs the command without the rest."""
    *_, requirements, package = shlex.split(INSTALL)
    assert package == "."
    locked = re.findall(r"^([a-z-]+)==", (ROOT / requirements).read_text(), re.MULTILINE)
    assert {"numpy", "pillow", "onnxruntime"} <= set(locked)
    assert not {"torch", "torchvision", "allennlp"} & set(locked)


def test_several_sources(exported: Any, folder: Path, run: Run) -> None:
    for name in ("garden", "scans", "holidays"):
        write_images(folder, {name: 2})
    (folder / "attic" / "box").mkdir(parents=True)
    for number in range(2):
        shutil.move(folder / f"scans/00{number}.jpg", folder / f"attic/box/scan_{number}.png")
    (folder / "holidays.csv").write_text("day,file\n1,holidays/001.jpg\n2,holidays/000.jpg\n")
    run(*shlex.split(SEVERAL), cwd=folder)
    records = [json.loads(line) for line in (folder / "all.jsonl").read_text().splitlines()]
    assert [record["path"] for record in records] == [
        *("holidays/001.jpg", "holidays/000.jpg", "garden/000.jpg", "garden/001.jpg"),
        *("attic/box/scan_0.png", "attic/box/scan_1.png"),
    ]
    shown = [json.loads(line).keys() for line in ANSWERS.splitlines()]
    assert records[0].keys() == shown[0]
    assert shown[1] == {"path", "error"}


def test_any_number_of_labels(folder: Path, run: Run) -> None:
    write_bundle(folder / "posters_bundle", ["Comedy", "Drama", "Action"], [0.99, 0.99, 0.99])
    write_images(folder / "posters", {"images": 2})
    (folder / "thresholds.json").write_text(GENRES)
    run(*shlex.split(THRESHOLDS), cwd=folder)
    rows = read_csv(folder / "genres.csv")
    assert list(rows[0]) == list(columns(["Comedy", "Drama", "Action"], True, 3, False))
    for row in rows:
        assert set(row["labels"].split("|")) == {"Comedy", "Drama"}


def test_the_columns(folder: Path) -> None:
    section = PAGE.partition("## Output")[2].partition("\n## ")[0]
    table = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(table))
    assert named == list(columns(["cat", "dog"], False, 2, True, everything(2)))


def test_what_a_calibrated_model_decides() -> None:
    section = PAGE.partition("## Calibrated models\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    several = columns(["cat", "dog"], True, 1, False, everything(2, sets="missed"))
    assert named == list(several)[1:5]
    cat: Dict[str, Any] = {"label": "cat", "labels": ["cat", "lynx"], "is_answered": True}
    top_k = [{"label": "cat", "probability": 0.7}]
    printed = [
        single_answer({"path": f"photos/{name}.jpg", "top_k": top_k, **cat, **decided}, 80, 0.95)[0]
        for name, decided in {
            "tom": {},
            "shoe": {"is_unknown": True, "is_answered": False},
            "fog": {"is_answered": False},
        }.items()
    ]
    assert printed == CALIBRATED.splitlines()


def test_the_python_way(exported: Any, folder: Path, capsys: pytest.CaptureFixture) -> None:
    (code,) = blocks("python")
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(compile(code, "predict.md", "exec"), {})
    finally:
        os.chdir(before)
    lines = capsys.readouterr().out.splitlines()
    of_archive, of_bundle = lines[:4], lines[4:]
    assert of_archive[0].startswith("TrainedModel('pets/model.tar.gz': one label an image")
    assert of_bundle[0].startswith("TrainedModel('pets_bundle': one label an image")
    for _, one, listed, error in (of_archive, of_bundle):
        assert one.split()[0] in ("Cat", "Dog")
        assert listed == str([one.split()[0]])
        assert error == json.loads(ANSWERS.splitlines()[1])["error"]
