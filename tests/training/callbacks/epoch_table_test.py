import logging
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest

from allencv.training.callbacks.epoch_table import Column, EpochTable, columns_for, duration

METRICS: Dict[str, Any] = {
    "best_epoch": 0,
    "training_accuracy": 0.5,
    "training_loss": 1.25,
    "training_worker_0_memory_MB": 800.0,
    "validation_accuracy": 0.75,
    "validation_mean_average_precision": 0.5,
    "validation_f1": 0.625,
    "validation_loss": 1.0,
    "best_validation_accuracy": 0.75,
}


@pytest.mark.parametrize(
    ("tracked", "width", "expected"),
    [
        (["loss"], 10, ["loss", "val loss", "val accuracy"]),
        (["f1"], 10, ["loss", "val loss", "val f1"]),
        (["f1"], 42, ["loss", "val loss", "val f1", "val accuracy"]),
        (["f1"], 41, ["loss", "val loss", "val f1"]),
        (
            *(["loss"], 200),
            ["loss", "val loss", "val accuracy", "val mean_average_precision", "val f1"],
        ),
    ],
)
def test_the_columns_that_fit(tracked: List[str], width: int, expected: List[str]) -> None:
    columns = columns_for(METRICS, tracked, width)
    assert [column.title for column in columns] == expected
    assert all(column.key in METRICS for column in columns)


def test_without_validation() -> None:
    metrics = {key: value for key, value in METRICS.items() if "validation" not in key}
    assert columns_for(metrics, ["loss"], 80) == [
        Column("loss", "training_loss"),
        Column("accuracy", "training_accuracy"),
    ]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0:00"), (7.6, "0:08"), (59.9, "1:00"), (3599.9, "1:00:00"), (36_061, "10:01:01")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def lines_of(
    epochs: List[Dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_primary: bool = True,
) -> List[str]:
    """The lines for epochs of 8 seconds each."""
    monkeypatch.setenv("COLUMNS", "80")
    clock = iter(range(0, 1000, 8))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    tracker = SimpleNamespace(tracked_metrics=[(-1.0, "loss")])
    trainer: Any = SimpleNamespace(_num_epochs=12, _metric_tracker=tracker)
    table = EpochTable(None)
    table.on_start(trainer, is_primary)
    with caplog.at_level(logging.INFO, "allencv"):
        for epoch, metrics in enumerate(epochs):
            table.on_epoch(trainer, metrics, epoch, is_primary)
    return [each.message for each in caplog.records if each.name.startswith("allencv")]


def test_a_line_for_each_epoch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    epochs = [METRICS, {**METRICS, "validation_loss": 1.5}, {**METRICS, "best_epoch": 2}]
    lines = lines_of(epochs, monkeypatch, caplog)
    assert lines == [
        "epoch     loss  val loss  val accuracy    time    left",
        " 1/12   1.2500    1.0000        0.7500    0:08    1:28  best",
        " 2/12   1.2500    1.5000        0.7500    0:08    1:20",
        " 3/12   1.2500    1.0000        0.7500    0:08    1:12  best",
    ]
    styles = [getattr(record, "styles", ()) for record in caplog.records if record.message in lines]
    assert styles == [("1",), ("32",), (), ("32",)]


def test_no_epoch_is_the_best_without_validation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = {key: value for key, value in METRICS.items() if "validation" not in key}
    _, line = lines_of([metrics], monkeypatch, caplog)
    assert line == " 1/12   1.2500    0.5000    0:08    1:28"


def test_other_ranks_print_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lines_of([METRICS], monkeypatch, caplog, is_primary=False) == []
