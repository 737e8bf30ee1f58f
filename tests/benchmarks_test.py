"""The figures in the docs are those that the benchmarks have written, and their programs run."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT, Run, write_images

BENCHMARKS = ROOT / "benchmarks"
PAGES = {
    "certainty": "unsure.md",
    "data_loading": "data_loading.md",
    "distributed": "distributed.md",
    "distributed_training": "distributed.md",
    "features": "quick.md",
    "int8": "export.md",
    "learning_curves": "recipes.md",
    "loader_workers": "data_loading.md",
    "precision": "devices.md",
    "quick": "quick.md",
    "review": "review.md",
    "serving": "serving.md",
    "slim": "serving.md",
    "small_networks": "fit.md",
    "startup": "training.md",
    "storage": "data_loading.md",
    "training": "training.md",
}


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        sys.modules.pop(name, None)
        return __import__(name)

    return load


@pytest.mark.parametrize("name", PAGES)
def test_the_docs_hold_the_table_of_the_json(name: str, imported: Any) -> None:
    report = json.loads((BENCHMARKS / f"{name}.json").read_text())
    found = imported("tables").in_docs(PAGES[name], f"benchmarks/{name}.py")
    assert found[2] == imported(name).table(report) + "\n"


@pytest.mark.exhaustive
def test_data_loading(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    output = tmp_path / "report.json"
    command = [
        *("python", BENCHMARKS / "data_loading.py", "--images", 70, "--rounds", 1),
        *("--sizes", 32, "--workers", 1, "--loaders", "allencv", "timm", "--output", output),
    ]
    table = run(*command).stdout
    report = json.loads(output.read_text())["sizes"]["32"]
    assert report["medians"]["timm"]["images_per_second"] > 0
    assert report["ratios_to_timm"]["timm"]["images_per_second"] == 1
    assert "| 32 | allencv |" in table
    assert "| 32 | timm |" in table


@pytest.mark.exhaustive
def test_training(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    command = [
        *("python", BENCHMARKS / "training.py", "--rounds", 1, "--rounds-of-processes", 1),
        *("--steps", 1, "--files", "ViT-tiny:32", "--images", 40, "--workers", 1),
        *("--output", output),
    ]
    table = run(*command).stdout
    report = json.loads(output.read_text())
    assert report["loops"]["ResNet-18, 64 px"]["bare"]["time_to_bare"] == 1
    assert report["files"]["ViT-tiny:32"].keys() == {"allencv", "timm"}
    assert report["beside"]["quiet"].keys() == report["beside"]["beside a busy process"].keys()
    assert "| ViT-tiny, 32 px | timm |" in table
    again = run(*command).stdout  # measures nothing
    assert again.splitlines()[-3:] == table.splitlines()[-3:]


@pytest.mark.exhaustive
def test_precision(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    command = ["python", BENCHMARKS / "precision.py", "--sizes", 64, "--rounds", 1]
    networks = ["--networks", "small_resnet", "ViT-tiny", "--output", output]
    table = run(*command, *networks).stdout
    (report,) = json.loads(output.read_text())
    rows = report["rows"]
    assert {row["network"] for row in rows} == {"small_resnet", "ViT-tiny"}
    assert {row["kind"] for row in rows} == {"training", "inference"}
    for row in rows:
        assert row["default"] in row["images_per_second"]
        assert 0 < row["to_best"] <= 1
    assert "| ViT-tiny | 64 |" in table


@pytest.mark.exhaustive
def test_distributed(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    command = ["python", BENCHMARKS / "distributed.py", "--rounds", 1, "--images", 20]
    table = run(*command, "--output", output).stdout
    report = json.loads(output.read_text())
    assert report["medians"]["`classify`"]["ratio"] == 1
    assert report["medians"]["`sweep --seeds 2`"]["ratio"] == 1
    assert "| `classify`, 2 shards at once |" in table


@pytest.mark.exhaustive
def test_serving(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("litserve")
    pytest.importorskip("openvino")
    output = tmp_path / "report.json"
    command = [
        *("python", BENCHMARKS / "serving.py", "--rounds", 1, "--seconds", 1),
        *("--clients", 2, "--workers", 1, "--output", output),
    ]
    table = run(*command).stdout
    report = json.loads(output.read_text())
    for precision in ("float32", "int8"):
        servers = report["precisions"][precision]["2"]
        assert servers["LitServe"]["p99_to_litserve"] == 1
        assert servers["the limit"]["speed_to_limit"] == servers["the limit"]["cpu_to_limit"] == 1
        assert servers["allencv"]["speed_to_limit"] > 0
        assert servers["allencv, openvino-reduced"]["requests_per_second"] > 0
        at_rate = report["precisions"][precision]["0.8 of capacity"]
        assert at_rate["allencv"]["p99_to_p50"] >= 1
        assert "the limit" not in at_rate
        assert f"| {precision} | 2 | LitServe |" in table
        assert f"| {precision} | LitServe |" in table


@pytest.mark.exhaustive
def test_int8(run: Run, trained_run: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    photos, output = cats_and_dogs / "test", tmp_path / "report.json"
    export = ["allencv", "export", trained_run / "model.tar.gz"]
    run(*export, tmp_path / "float32")
    run(
        *export,
        tmp_path / "int8",
        "--quantize",
        "int8",
        "--quantization-images",
        photos,
        "--agreement",
        0.5,
    )
    command = [
        *("python", BENCHMARKS / "int8.py", "--data", photos, "--rounds", 1),
        *("--model", "pets", tmp_path / "float32", tmp_path / "int8", "--output", output),
    ]
    table = run(*command).stdout
    report = json.loads(output.read_text())["models"]["pets"]
    assert report["labels"] == 2
    assert report["agreement"] >= 0.5
    assert "| pets, 32 px | 2 |" in table


@pytest.mark.exhaustive
def test_features(run: Run, cats_and_dogs: Path, tmp_path: Path) -> None:
    pytest.importorskip("psutil")
    output = tmp_path / "report.json"
    output.write_text('{"another part": 1}')
    command = ["python", BENCHMARKS / "features.py", "--data", cats_and_dogs, "--rounds", 1]
    table = run(*command, "--model", "test_resnet", "--output", output).stdout
    report = json.loads(output.read_text())
    ways = report["embed"]["ways"]
    for way in ("`allencv embed`", "a script of timm"):
        assert ways[way]["images_per_second"] > 0
        assert ways[way]["to_network"] > 0
        assert f"| {way} |" in table
    assert report["another part"] == 1


@pytest.mark.exhaustive
def test_small_networks(run: Run, cats_and_dogs: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / "cifar10" / split, {"cat": 130, "horse": 130})
    output = tmp_path / "report.json"
    data = "CIFAR-10, 200 images of 2 classes"
    command = [
        *("python", BENCHMARKS / "small_networks.py", tmp_path / "cifar10", cats_and_dogs),
        *("--seconds", 2, "--precisions", "float32", "--only", data, "--output", output),
    ]
    table = run(*command).stdout
    networks = json.loads(output.read_text())["runs"][data]["float32"]
    assert len(networks) == 4
    assert all(0 <= each["accuracy"] <= 1 for runs in networks.values() for each in runs)
    assert f"| {data} | float32 |" in table


@pytest.mark.exhaustive
def test_storage(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    pytest.importorskip("psutil")
    output = tmp_path / "report.json"
    command = ["python", BENCHMARKS / "storage.py", "--images", 200, "--rounds", 1]
    table = run(*command, "--output", output).stdout
    forms = json.loads(output.read_text())["forms"]
    assert forms["a list"]["files"] == 201
    assert forms["tar shards with an index"]["files"] == 2
    assert "| tar shards |" in table
