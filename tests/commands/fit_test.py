import json
import logging
import re
from pathlib import Path

import pytest
from allennlp.common import Params

from allencv.runtime.errors import InputError
from tests.conftest import Run, run_in_process, write_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("fit") / "photos", {"cat": 15, "dog": 15}, size=32)


@pytest.fixture(scope="module")
def fitted(photos: Path, run: Run) -> str:
    """What the command says that finds the learning rate and the number of epochs by itself."""
    return run(
        *("allencv", "fit", "photos", "-o", "runs/first", "--weights", "none"),
        *("--image-size", 32, "--lr", "auto", "--time", "10s"),
        cwd=photos.parent,
    ).stdout


def test_it_says_what_it_found_and_chose(fitted: str) -> None:
    assert "  labels: the folders in photos: cat/, dog/ (--layout)" in fitted
    assert "  images: 24 for training, 6 for validation" in fitted
    assert re.search(r"^  2 labels: cat 12, dog 12$", fitted, re.MULTILINE)
    assert re.search(r"^  image size +32 x 32 +as requested$", fitted, re.MULTILINE)
    assert re.search(r"^  learning rate +\S+ +where the loss fell fastest", fitted, re.MULTILINE)
    assert re.search(r"^  epochs +\d+ +about [\d.]+ s each, in 10s$", fitted, re.MULTILINE)


def test_it_leaves_an_archive_and_says_how_good_it_is(fitted: str, photos: Path) -> None:
    folder = photos.parent / "runs" / "first"
    metrics = json.loads((folder / "metrics.json").read_text())
    accuracy = metrics["best_validation_accuracy"]  # of what a busy machine can do in the time
    assert (folder / "model.tar.gz").exists()
    assert re.search(
        r"^Done in 0:\d\d:\d\d. Best epoch: \d+ of \d+.( Stopped early: .*)?\n"
        rf"On the validation images: accuracy {accuracy:.3f}",
        fitted,
        re.M,
    )


def test_its_config_is_an_ordinary_one(fitted: str, photos: Path, run: Run) -> None:
    file = photos.parent / "runs" / "first.jsonnet"
    assert file.read_text().startswith("// Written by: allencv fit photos -o runs/first")
    config = Params.from_file(file).as_dict()
    used = json.loads((photos.parent / "runs" / "first" / "config.json").read_text())
    assert used == config
    overrides = json.dumps({"trainer.num_epochs": 2})
    run(*("allencv", "train", file, "-s", "again", "-o", overrides), cwd=photos.parent)


def test_a_run_is_not_overwritten(fitted: str, photos: Path, run: Run) -> None:
    command = ("allencv", "fit", "photos", "-o", "runs/first", "--weights", "none")
    result = run(*command, cwd=photos.parent, fails=True)
    assert "--output is 'runs/first', which has files; expected a new folder" in result.stderr
    assert "allencv train runs/first.jsonnet -s runs/first --recover" in result.stderr


def test_the_config_only(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path, {"images": 20}, size=32)
    rows = [f"{i:03d}.jpg,{'a|b' if i % 3 else 'b'}" for i in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["file,tags", *rows]))
    command = ("allencv", "fit", "table.csv", "-o", "run", "--write-config-only", "--epochs", 3)
    result = run(*command, "--backbone", "small_resnet", cwd=tmp_path)
    assert "labels: column tags, '|' between them (--label-column" in result.stdout
    assert result.stdout.endswith("Config: run.jsonnet\n")
    config = Params.from_file(tmp_path / "run.jsonnet").as_dict()
    assert config["trainer"]["num_epochs"] == 3
    assert not (tmp_path / "run").exists()


def test_one_image_that_cannot_be_read(tmp_path: Path, run: Run) -> None:
    write_images(tmp_path / "photos", {"cat": 10, "dog": 10}, size=32)
    damaged = tmp_path / "photos" / "cat" / "003.jpg"
    damaged.write_bytes(damaged.read_bytes()[:600])
    command = ("allencv", "fit", "photos", "-o", "run", "--weights", "none", "--image-size", 16)
    result = run(*command, "--on-error", "fail", cwd=tmp_path, fails=True)
    assert result.stderr.splitlines()[-1] == (
        "allencv: --on-error is fail, and images cannot be read (1); repair or remove them, "
        "or leave them out with --on-error skip"
    )
    assert not (tmp_path / "run.jsonnet").exists()
    result = run(*command, "--epochs", 1, cwd=tmp_path)
    found = "  warning: images that cannot be read and are left out (1; --on-error):\n"
    assert f"{found}    photos/cat/003.jpg: " in result.stdout
    assert (tmp_path / "run" / "model.tar.gz").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--task", "multi"),
            "--task is multi, but image_folder reads one label per image; for several labels, "
            "give a table as DATA",
        ),
        (("--epochs", "0"), "--epochs is 0; expected 1 or more"),
        (("--epochs", "2", "--time", "1m"), "--epochs is 2 and --time is 1m; expected one of them"),
        (("--lr", "fast"), "--lr is 'fast'; expected a number above 0, or 'auto'"),
        (("--lr", "-1"), "--lr is '-1'; expected a number above 0, or 'auto'"),
    ],
)
def test_wrong_arguments(
    arguments: "tuple[str, ...]", message: str, photos: Path, run: Run
) -> None:
    result = run("allencv", "fit", photos, "-o", "wrong", *arguments, fails=True)
    assert result.stderr.splitlines()[-1] == f"allencv: {message}"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (" ", "--output is empty; expected the path of a folder"),
        ("/", "--output is '/'; expected a folder with a name"),
        (".", "--output is '.', which has files; expected a new folder"),
        ("cat/..", "--output is 'cat/..', which has files; expected a new folder"),
    ],
)
def test_a_folder_without_a_name(
    output: str, message: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(InputError, match=re.escape(message)):
        fit(*("cat", "-o", output))


def test_an_image_size_is_refused_before_images_are_read(photos: Path) -> None:
    with pytest.raises(InputError, match="--image-size is 0; expected 8 or more"):
        fit("not there", "-o", "wrong", "--image-size", "0")


def fit(*arguments: str) -> None:
    """Run the command in this process."""
    args = ["fit", *arguments]
    try:
        run_in_process(*args)
    finally:
        logging.disable(logging.NOTSET)
