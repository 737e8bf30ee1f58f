"""The `allencv` command, in an empty folder: without `.allennlp_plugins` or `--include-package`."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from allencv.predictors import ImageClassifierPredictor
from tests.commands.conftest import Clone
from tests.conftest import Run

pytestmark = pytest.mark.slow


def test_help_lists_the_commands(run: Run, tmp_path: Path) -> None:
    result = run("allencv", "--help", cwd=tmp_path)
    listed = set(re.findall(r"^    ([a-z-]+)(?=\s)", result.stdout, re.MULTILINE))
    assert {"train", "evaluate", "predict", "find-lr", "build-vocab", "print-results"} <= listed


def test_find_lr_takes_the_config_as_it_is(clone: Clone, run: Run, tmp_path: Path) -> None:
    run(
        *("allencv", "find-lr", clone.folder / clone.config, "-s", "lr", "--num-batches", 20),
        cwd=tmp_path,
        env=clone.env,
    )
    assert (tmp_path / "lr" / "lr-losses.png").stat().st_size > 1000


def test_what_predicts_in_a_clone_predicts_here(
    cats_and_dogs: Path, finished: Path, run: Run, tmp_path: Path
) -> None:
    image = cats_and_dogs / "val" / "Dog" / "000.jpg"
    (tmp_path / "image.jsonl").write_text(json.dumps({"image": str(image)}))
    run(
        *("allencv", "predict", finished / "model.tar.gz", "image.jsonl"),
        *("--output-file", "answer.jsonl"),
        cwd=tmp_path,
    )
    answer = json.loads((tmp_path / "answer.jsonl").read_text())
    # The same model, asked in Python
    expected = ImageClassifierPredictor.from_path(finished / "model.tar.gz").predict(str(image))
    assert answer["label"] == expected["label"]
    assert answer["probs"] == pytest.approx(expected["probs"], abs=1e-6)


@pytest.fixture
def crafted(finished: Path, tmp_path: Path) -> "tuple[Path, Path]":
    """An archive whose config runs a program that makes a file, and that file."""
    content, mark = tmp_path / "content", tmp_path / "mark"
    with tarfile.open(finished / "model.tar.gz") as archive:
        archive.extractall(content, filter="data")
    config = json.loads((content / "config.json").read_text())
    touch = {"type": "subprocess.Popen", "args": ["touch", str(mark)]}
    config["validation_dataset_reader"] = touch
    (content / "config.json").write_text(json.dumps(config))
    (content / "checksums.json").unlink()  # an attacker would write others
    return Path(shutil.make_archive(str(tmp_path / "model"), "gztar", content)), mark


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_an_archive_that_names_code_is_refused_in_a_line(
    crafted: "tuple[Path, Path]", cats_and_dogs: Path, run: Run, tmp_path: Path, command: str
) -> None:
    archive_file, mark = crafted
    arguments = [archive_file, cats_and_dogs / "val"]
    result = run("allencv", command, *arguments, cwd=tmp_path, fails=True)
    assert "Traceback" not in result.stderr
    reason = result.stderr.splitlines()[-1]
    assert reason.startswith(f"allencv: archive '{archive_file}' is not opened: ")
    assert "validation_dataset_reader.type is 'subprocess.Popen'" in reason
    assert "--trust-archive" in reason
    assert not mark.exists()


def test_a_trusted_archive_runs_what_it_names(
    crafted: "tuple[Path, Path]", cats_and_dogs: Path, run: Run, tmp_path: Path
) -> None:
    """It fails in the end, as a process is no reader; but not before it has been started."""
    archive_file, mark = crafted
    arguments = [archive_file, cats_and_dogs / "val", "--trust-archive"]
    result = run("allencv", "evaluate", *arguments, cwd=tmp_path, fails=True)
    assert "is not opened" not in result.stderr
    assert mark.exists()


def test_an_override_of_what_the_config_lacks(clone: Clone, run: Run, tmp_path: Path) -> None:
    overrides = json.dumps({"distributed.cuda_devices": [0, 1]})
    result = run(
        *("allencv", "train", clone.folder / clone.config, "-s", "run", "-o", overrides),
        cwd=tmp_path,
        env=clone.env,
        fails=True,
    )
    last = result.stderr.splitlines()[-1]
    assert last.startswith("allencv: --overrides is ")
    assert "unused keys: ['distributed.cuda_devices']" in last
    assert last.endswith('or a new key as a whole: {"distributed": {"cuda_devices": [0, 1]}}')
    assert "Traceback" not in result.stderr
