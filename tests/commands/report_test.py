import json
import shutil
from pathlib import Path

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.predictions.predictions_file import Predictions
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import full_disk, run_in_process


def report(*arguments: object) -> None:
    run_in_process("report", *map(str, arguments))


@pytest.fixture(scope="module")
def trained(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as older ones were, without predictions."""
    folder = tmp_path_factory.mktemp("reported") / "run"
    config = experiment(
        cats_and_dogs,
        test_data_path=str(cats_and_dogs / "test"),
        trainer__num_epochs=2,
        trainer__enable_default_callbacks=False,
    )
    train_model(Params(config), str(folder))
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_page_is_written(run: Path, capsys: pytest.CaptureFixture) -> None:
    report(run)
    assert capsys.readouterr().out == f"report: {run}/report.html\n"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert f"Report of {run.parent.name}/run" in page
    assert "no predictions for single images" in page
    report(run, "-o", run.parent / "new" / "page.html")
    assert (run.parent / "new" / "page.html").read_text(encoding="utf-8") == page


def test_a_full_disk_leaves_the_page_that_was_there(run: Path) -> None:
    (run / "report.html").write_text("the good page")
    with full_disk(), pytest.raises(OSError, match="No space left on device") as error:
        report(run)
    assert error.value.filename == str(run / "report.html")
    assert (run / "report.html").read_text() == "the good page"


def test_evaluate(run: Path, capsys: pytest.CaptureFixture) -> None:
    report(run, "--evaluate", "--pictures", 2)
    file = run / "predictions" / "validation.npz"
    assert f"predictions: {file}\n" in capsys.readouterr().out
    found = Predictions.load(file)
    assert len(found.names) == 10
    assert 1 <= len(found.pictures) <= 6
    metrics = json.loads((run / "metrics.json").read_text())
    accuracy = (found.given == found.targets).mean()
    assert accuracy == pytest.approx(metrics["best_validation_accuracy"], abs=0.11)  # bfloat16
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Validation: 10 images" in page
    assert page.count("<img") >= 2 * len(found.pictures)
    report(run, "--evaluate", "test")
    assert "Test: 8 images" in (run / "report.html").read_text(encoding="utf-8")


def test_evaluate_where_the_images_are_now(run: Path, cats_and_dogs: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["validation_data_path"] = "/gone"
    (run / "config.json").write_text(json.dumps(config))
    overrides = json.dumps({"validation_data_path": str(cats_and_dogs / "test")})
    report(run, "--evaluate", "--overrides", overrides)
    assert len(Predictions.load(run / "predictions" / "validation.npz").names) == 8


def test_bad_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of a run at 'missing'"):
        report("missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not the folder of a run"):
        report(tmp_path / "empty")
    with pytest.raises(InputError, match="is not the folder of a run"):
        report(tmp_path / "empty", "--evaluate")
    with pytest.raises(InputError, match="is a folder; expected the name of a file"):
        report(run, "-o", tmp_path)
    with pytest.raises(InputError, match="--pictures is -1"):
        report(run, "--pictures", -1)
    with pytest.raises(InputError, match="has no test_data_path"):
        report(run, "--evaluate", "test", "--overrides", '{"test_data_path": null}')
    (run / "best.th").unlink()
    with pytest.raises(InputError, match="has no weights"):
        report(run, "--evaluate")
    assert not (run / "report.html").exists()
