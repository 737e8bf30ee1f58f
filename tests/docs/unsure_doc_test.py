"""The commands, the config and the code of docs/unsure.md, run as they are printed."""

import json
import re
import shlex
import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import List

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

from allencv.certainty.label_sets import fewest_for
from allencv.certainty.selection import fewest_images
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import ROOT, run_in_process, write_images

PAGE = (ROOT / "docs" / "unsure.md").read_text(encoding="utf-8")


def blocks(language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def pets(
    trained_run: Path, cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory, with a run and images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLENCV_FEATURES", "cache")
    shutil.copytree(trained_run, "runs/pets")
    shutil.copytree(cats_and_dogs, "pets")
    write_images(tmp_path / "pets" / "calibration", {"Cat": 30, "Dog": 30}, seed=9)
    write_images(tmp_path / "pets" / "test", {"Cat": 8, "Dog": 8}, seed=11)
    write_images(tmp_path, {"other_photos": 3}, seed=10)
    (tmp_path / "photos").mkdir()
    shutil.copy("pets/calibration/Cat/000.jpg", "photos/a.jpg")
    return tmp_path


def row_titles(text: str) -> List[str]:
    """The titles at the left of a text, such as "unknown"."""
    return re.findall(r"^(\w[\w ]*?)  ", text, re.MULTILINE)


def test_the_commands(pets: Path, capsys: pytest.CaptureFixture) -> None:
    printed, printed_check = blocks("text")
    first, *commands = "".join(blocks("bash")).splitlines()
    run_in_process(*shlex.split(first)[1:])
    said = capsys.readouterr().out
    assert said.startswith("calibrated on 60 images of pets/calibration\n")
    # The page shows the output with --target-accuracy.
    assert row_titles(said) == [row for row in row_titles(printed) if row != "answered"]
    assert "written: runs/pets/certainty.json, runs/pets/certainty.npz" in said
    for command in commands:
        # One epoch of training may be too little for the target of the page.
        with suppress(InputError) if "--target-accuracy" in command else nullcontext():
            run_in_process(*shlex.split(command)[1:])
            said = capsys.readouterr().out
            if "--check" in command:
                assert said.startswith("checked on 16 images of pets/test\n")
                # The page shows a model that was calibrated with --target-accuracy.
                assert row_titles(said) == [
                    row for row in row_titles(printed_check) if row != "answered"
                ]
            else:
                assert "calibrated on 60 images" in said
    assert "of the 3 images of --unknown-images" in said
    (code,) = blocks("python")
    exec(code, {})
    assert re.fullmatch(r"(Cat|Dog)|ask a person: .*", capsys.readouterr().out.strip())


def test_the_config(pets: Path) -> None:
    (text,) = blocks("jsonnet")
    Path("page.jsonnet").write_text(text)
    page = Params.from_file("page.jsonnet").as_dict(quiet=True)
    config = experiment(Path("pets"), trainer__num_epochs=1, data_loader__num_workers=0)
    assert {"train_data_path", "validation_data_path"} < set(page)
    config |= page
    # One epoch of training is too little for the target of the page.
    config["calibration"]["target_accuracy"] = 0.3
    train_model(Params(config), "runs/calibrated")
    certainty = json.loads(Path("runs/calibrated/certainty.json").read_text())
    assert certainty["sets"]["levels"] == [0.9, 0.8]
    assert certainty["unknown"]["kind"] == "nearest"


def test_the_numbers_of_images() -> None:
    assert f"{fewest_for(0.95)} for 0.95 and {fewest_for(0.99)} for 0.99" in PAGE
    assert f"at least {fewest_images(0.99)} images" in PAGE
