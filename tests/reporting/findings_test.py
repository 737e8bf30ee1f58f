import json
from pathlib import Path
from typing import Any, Dict

import pytest

from allencv.predictions.predictions_file import FOLDER
from allencv.reporting.findings import Findings, run_findings, run_name
from allencv.reporting.run_folder import read_run
from allencv.reporting.run_html import summary
from tests.reporting.predictions_data import single

CONFIG = {
    "model": {"im2im_encoder": {"type": "timm", "model_name": "resnet18"}},
    "trainer": {"num_epochs": 5, "validation_metric": "+accuracy"},
}
ABOUT = {
    "train": {"images": 30, "labels": {"cat": 10, "dog": 15, "eel": 5}},
    "device": "cpu",
    "processes": 1,
    "threads": 2,
}


def epoch(number: int, **values: Any) -> Dict[str, Any]:
    return {
        "best_epoch": min(number, 1),
        "training_duration": f"0:00:0{2 * number + 2}",
        "epoch": number,
        "training_gpu_0_memory_MB": 9.5,
        "training_loss": 1 / (number + 1),
        "validation_accuracy": 0.5,
        "validation_loss": 2.0,
        **values,
    }


def write(folder: Path, files: Dict[str, Any]) -> Path:
    (folder / FOLDER).mkdir()
    for name, content in {"config.json": CONFIG, **files}.items():
        (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    files = {f"metrics_epoch_{number}.json": epoch(number) for number in range(3)}
    metrics = {"best_epoch": 1, "peak_gpu_0_memory_MB": 12.0}
    write(tmp_path, {**files, "metrics.json": metrics, f"{FOLDER}/run.json": ABOUT})
    for split in ("validation", "test"):
        single().save(tmp_path / FOLDER / f"{split}.npz")
    return run_findings(read_run(tmp_path))


def test_a_finished_run(findings: Findings, tmp_path: Path) -> None:
    assert findings.name == tmp_path.name
    assert findings.network == "resnet18 (timm)"
    assert findings.is_finished
    assert (findings.epochs, findings.planned_epochs) == (3, 5)
    assert findings.train_images == 30
    assert findings.train_labels == [("dog", 15), ("cat", 10), ("eel", 5)]
    assert [split.name for split in findings.splits] == ["test", "validation"]
    assert findings.num_labels == 12
    assert findings.facts["metric for the best epoch"] == "+accuracy"


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("runs/pets", "pets"),
        ("demo/run", "demo/run"),
        ("pets/seed_3/run", "pets/seed_3/run"),
        ("a/pets/2024-05-01_12-30", "pets/2024-05-01_12-30"),
        ("/run", "run"),
    ],
)
def test_the_name_of_a_run(folder: str, expected: str) -> None:
    assert run_name(Path(folder)) == expected


def test_epochs_count_from_1(findings: Findings) -> None:
    assert findings.metrics["best_epoch"] == 1
    assert findings.best_epoch == 2
    assert findings.curves[0].training == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_curves_begin_with_the_loss_and_the_metric_of_the_best_epoch(tmp_path: Path) -> None:
    values = {"training_auc": 0.1, "training_duration": "0:00:01", "validation_nan": float("nan")}
    files = {"metrics_epoch_0.json": epoch(0, **values), "metrics_epoch_1.json": epoch(1)}
    curves = run_findings(read_run(write(tmp_path, files))).curves
    assert [curve.metric for curve in curves] == ["loss", "accuracy", "auc"]
    assert curves[2].training == [(1, 0.1)]
    assert curves[2].validation == []


def test_speed(findings: Findings) -> None:
    speed = findings.speed
    assert speed is not None
    assert speed.epoch_seconds == [2, 2, 2]  # the files hold the time since the start
    assert speed.images_per_second == 15
    assert (speed.device, speed.processes, speed.threads) == ("cpu", 1, 2)
    assert speed.peak_memory == {"gpu 0": 12}


def test_a_run_that_was_killed_in_its_first_epoch(tmp_path: Path) -> None:
    findings = run_findings(read_run(write(tmp_path, {})))
    assert not findings.is_finished
    assert not findings.has_run_json
    assert (findings.best_epoch, findings.speed, findings.train_images) == (None, None, None)
    assert findings.splits == findings.curves == findings.train_labels == []
    assert (findings.epochs, findings.num_labels) == (0, 0)


def test_a_run_that_fitted_only_the_last_layer(tmp_path: Path) -> None:
    trainer = {"type": "linear_head", "kind": "nearest_class_mean"}
    files = {
        "config.json": {**CONFIG, "trainer": trainer},
        "metrics_epoch_0.json": epoch(0),
        f"{FOLDER}/run.json": ABOUT,
    }
    findings = run_findings(read_run(write(tmp_path, files)))
    assert (findings.head, findings.speed, findings.curves) == ("nearest class mean", None, [])
    assert summary(findings) == (
        "resnet18 (timm), frozen: nearest class mean fitted on 30 images with 3 labels."
    )
