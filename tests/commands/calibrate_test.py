import json
import shutil
from pathlib import Path

import pytest

from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime.errors import InputError
from tests.conftest import run_in_process, write_images


@pytest.fixture
def folder(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a run in `run`, and images in `pets` and `others`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run, "run")
    write_images(tmp_path / "pets", {"Cat": 15, "Dog": 15}, seed=9)
    write_images(tmp_path, {"others": 4}, seed=10)
    return tmp_path


def test_each_option_is_used(folder: Path, capsys: pytest.CaptureFixture) -> None:
    run_in_process(
        *("calibrate", "run/model.tar.gz", "pets", "--probabilities", "none", "--sets", "aps"),
        *("--levels", "0.7", "0.9", "--by-class", "--target-accuracy", "0.3", "--certainty", "0.8"),
        *("--unknown", "nearest", "--known-share", "0.6", "--train-data", "pets"),
        *("--unknown-images", "others", "--device", "cpu"),
    )
    said = capsys.readouterr().out
    certainty = ArchiveClassifier("run/model.tar.gz", "cpu").certainty
    assert certainty is not None
    assert certainty.scaling is None
    assert certainty.sets is not None
    assert (certainty.sets.kind, certainty.sets.levels) == ("aps", [0.7, 0.9])
    assert certainty.sets.by_class
    assert certainty.selection is not None
    assert (certainty.selection.target_accuracy, certainty.selection.certainty) == (0.3, 0.8)
    assert certainty.unknown is not None
    assert (certainty.unknown.kind, certainty.unknown.known_share) == ("nearest", 0.6)
    assert certainty.unknown.arrays["kept"].shape[0] == 30
    assert certainty.data == "pets"
    assert "of the 4 images of --unknown-images" in said
    assert said.endswith("written: run/model.tar.gz\n")
    assert max(map(len, said.splitlines())) <= 100


def test_it_says_what_it_does(folder: Path, capsys: pytest.CaptureFixture) -> None:
    run_in_process("calibrate", "run", "pets")
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "listing the images ...",
        "comparing the images with those of the training ...",
        "calibrating ...",
        "writing the results ...",
    ]
    assert said.out.startswith("calibrated on 30 images of pets\n")


def test_a_path_that_is_an_object(folder: Path) -> None:
    """As for a table with a column of splits."""
    config = json.loads(Path("run/config.json").read_text())
    config["validation_dataset_reader"] = {
        **{"type": "image_table", "image_column": "path", "label_column": "label"},
        **{"split_column": "split", "transforms": [{"type": "eval", "size": 32}]},
    }
    Path("run/config.json").write_text(json.dumps(config))
    rows = [f"pets/{label}/{i:03d}.jpg,{label},own" for label in ("Cat", "Dog") for i in range(12)]
    Path("table.csv").write_text("\n".join(["path,label,split", *rows, "pets/nowhere,Cat,train"]))
    run_in_process("calibrate", "run", '{"path": "table.csv", "split": "own"}')
    certainty = ArchiveClassifier("run", "cpu").certainty
    assert certainty is not None
    assert certainty.images == 24
    with pytest.raises(InputError, match="DATA is {path: 1}, which is not JSON"):
        run_in_process("calibrate", "run", "{path: 1}")


def test_nothing_but_probabilities(folder: Path) -> None:
    run_in_process("calibrate", "run", "pets", "--sets", "none", "--unknown", "none")
    certainty = ArchiveClassifier("run", "cpu").certainty
    assert certainty is not None
    assert certainty.scaling is not None
    assert (certainty.sets, certainty.selection, certainty.unknown) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levels", "0.9", "1"], "--levels is 1; expected a number between 0 and 1"),
        (["--target-accuracy", "95"], "--target-accuracy is 95; expected"),
        (["--certainty", "0"], "--certainty is 0; expected"),
        (["--known-share", "nan"], "--known-share is nan; expected"),
    ],
)
def test_shares_are_checked_first(options: "list[str]", message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_in_process("calibrate", "nowhere", "nothing", *options)


def test_check_changes_nothing(folder: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(folder / "test", {"Cat": 4, "Dog": 4}, seed=11)
    run_in_process("calibrate", "run", "pets", "--target-accuracy", "0.3")
    capsys.readouterr()
    before = {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()}
    run_in_process("calibrate", "run", "test", "--check", "--device", "cpu", "--trust-archive")
    assert {file: file.read_bytes() for file in Path("run").rglob("*") if file.is_file()} == before
    said = capsys.readouterr().out
    assert said.startswith("checked on 8 images of test\n")
    assert "promised for 95% of the images: " in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levels", "0.8"], "--levels has no effect with --check"),
        (["--by-class"], "--by-class has no effect with --check"),
        (["--unknown-images", "others"], "--unknown-images has no effect with --check"),
    ],
)
def test_options_that_check_does_not_use(options: "list[str]", message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_in_process("calibrate", "nowhere", "nothing", "--check", *options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere"], r"'nowhere' \(DATA\) does not exist"),
        (["run", "pets", "--levels", "0.99"], "levels .--levels. has 99%, and 30 images"),
        (["run", "pets", "--target-accuracy", "0.99"], "30 images are too few to show it"),
        (["run", "pets", "--check"], "'run' is not calibrated, so --check has nothing to check"),
        (["run", "empty"], r"'empty' \(DATA\)"),
        (["run", "foxes"], r"'foxes' \(DATA\): .* has the label 'Fox'"),
        (["run", "pets", "--unknown", "nearest", "--train-data", "nowhere"], r"\(--train-data\)"),
        (["run", "pets", "--probabilities", "platt"], "expected 'temperature'"),
        (["run", "pets", "--unknown", "none", "--unknown-images", "pets"], "leave one out"),
    ],
)
def test_nothing_is_written_after_an_error(
    folder: Path, arguments: "list[str]", message: str
) -> None:
    (folder / "empty").mkdir()
    write_images(folder / "foxes", {"Fox": 19})
    before = Path("run/model.tar.gz").read_bytes()
    with pytest.raises(InputError, match=message):
        run_in_process("calibrate", *arguments)
    assert Path("run/model.tar.gz").read_bytes() == before
    assert not Path("run/certainty.json").exists()
