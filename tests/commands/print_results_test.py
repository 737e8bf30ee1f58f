import json
from pathlib import Path
from typing import List

import pytest

from allencv.runtime.errors import InputError
from tests.conftest import run_in_process

METRICS = {"a": {"epoch": 1, "best_epoch": 0, "best_validation_loss": 0.5, "test_loss": 0.75}}
METRICS["b/c"] = {"training_loss": 0.25, "best_validation_loss": 1.5}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, metrics in METRICS.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def printed(capsys: pytest.CaptureFixture, *arguments: object) -> List[str]:
    run_in_process("print-results", *map(str, arguments))
    return capsys.readouterr().out.splitlines()


def test_the_metrics_of_the_models_are_printed(runs: Path, capsys: pytest.CaptureFixture) -> None:
    assert printed(capsys, runs) == [
        "model_run, best_epoch, best_validation_loss, test_loss",
        f"{runs}/a/metrics.json, 0, 0.5, 0.75",
        f"{runs}/b/c/metrics.json, N/A, 1.5, N/A",
    ]


def test_a_run_without_validation_shows_what_it_has(
    runs: Path, capsys: pytest.CaptureFixture
) -> None:
    (runs / "b/c/metrics.json").write_text('{"training_loss": 0.25, "epoch": 3}')
    assert printed(capsys, runs / "b") == [
        "model_run, training_loss, epoch",
        f"{runs}/b/c/metrics.json, 0.25, 3",
    ]


def test_keys_that_no_run_has_are_a_warning(runs: Path, capsys: pytest.CaptureFixture) -> None:
    run_in_process("print-results", str(runs), "-k", "epoch", "test_los")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "model_run, epoch, test_los"
    assert shown.out.splitlines()[1:] == [
        f"{runs}/a/metrics.json, 1, N/A",
        f"{runs}/b/c/metrics.json, N/A, N/A",
    ]
    assert shown.err.startswith("warning: --keys is 'test_los'; expected one of test_loss, ")


def test_where_nothing_is_found(runs: Path, capsys: pytest.CaptureFixture) -> None:
    (runs / "empty").mkdir()
    (runs / "b/c/bad.json").write_text("{")
    (runs / "b/c/list.json").write_text("[]")
    for arguments, message in (
        ([runs / "empty"], "empty' and its subfolders have no metrics.json; expected the"),
        ([runs / "nowhere"], "nowhere' is not a folder; expected one with finished runs"),
        ([runs / "a/metrics.json"], "metrics.json' is not a folder; expected one with finished"),
        ([runs, "-m", "bad.json"], "b/c/bad.json' is not JSON: Expecting property name"),
        ([runs, "-m", "list.json"], "list.json' has no metrics; expected a JSON object"),
    ):
        with pytest.raises(InputError, match=message):
            printed(capsys, *arguments)
