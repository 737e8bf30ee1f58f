import json
from pathlib import Path

import pytest
from allennlp.common.checks import ConfigurationError

from allencv.predictions.predictions_file import FOLDER
from allencv.reporting.run_folder import read_run
from tests.reporting.predictions_data import single


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / FOLDER).mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"numpy_seed": 5}')
    return tmp_path / "run"


def test_what_is_missing_is_empty(run: Path) -> None:
    found = read_run(run)
    assert found.config == {"numpy_seed": 5}
    assert found.seeds == {"random_seed": 13370, "numpy_seed": 5, "pytorch_seed": 133}
    assert (found.metrics, found.epochs, found.about, found.predictions) == ({}, [], {}, {})
    assert not found.is_finished
    assert found.best_epoch is found.started is None


def test_epochs_are_in_order_and_truncated_files_left_out(run: Path) -> None:
    for number in (0, 2, 10):
        content = {"epoch": number, "best_epoch": number}
        (run / f"metrics_epoch_{number}.json").write_text(json.dumps(content))
    (run / "metrics_epoch_11.json").write_text('{"epoch": 1')
    (run / "out.log").write_text("2026-11-27 21:26:03,123 - INFO - started\n")
    found = read_run(run)
    assert [epoch["epoch"] for epoch in found.epochs] == [0, 2, 10]
    assert found.best_epoch == 10
    assert str(found.started) == "2026-11-27 21:26:03"


def test_predictions_of_the_test_split_come_first(run: Path) -> None:
    for split in ("validation", "test"):
        single().save(run / FOLDER / f"{split}.npz")
    assert list(read_run(run).predictions) == ["test", "validation"]


def test_the_time_of_a_run_that_was_recovered(run: Path) -> None:
    """AllenNLP begins to count again."""
    totals = ["0:00:02", "0:00:05.500000", "0:00:01.500000", "1 day, 0:00:01.500000"]
    for number, total in enumerate(totals):
        content = {"training_duration": total}
        (run / f"metrics_epoch_{number}.json").write_text(json.dumps(content))
    assert read_run(run).epoch_seconds() == [2, 3.5, 1.5, 24 * 3600]


def test_not_a_run(tmp_path: Path, run: Path) -> None:
    (run / "model.tar.gz").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="model.tar.gz' is a file; expected the folder of"):
        read_run(run / "model.tar.gz")
    with pytest.raises(ConfigurationError, match="no folder of a run at '.*missing'"):
        read_run(tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="is not the folder of a run: it has no config"):
        read_run(tmp_path)
    (run / FOLDER / "validation.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigurationError, match="validation.npz does not hold .* --evaluate"):
        read_run(run)
