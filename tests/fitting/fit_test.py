import gzip
import json
import os
import shlex
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Iterator, List, Optional

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

import allencv
from allencv.data import remote
from allencv.fitting import FitOptions, FolderOptions, choices
from allencv.fitting.data_facts import DataFacts
from allencv.fitting.fit import Fitted, config_for, hint_at_chance
from allencv.training.train_in_folder import train_in_folder
from tests.conftest import write_images


def test_a_folder_of_images_becomes_a_model(cats_and_dogs: Path, tmp_path: Path) -> None:
    said: List[str] = []
    options = FitOptions(
        epochs=1,
        image_size=32,
        seed=7,
        folders=FolderOptions(layout="splits"),
        backbone="small_resnet",
    )
    fitted = allencv.fit(cats_and_dogs, tmp_path / "run", options, say=said.append)
    assert fitted.metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (tmp_path / "run.jsonnet").read_text().startswith("// Written by: allencv.fit\n")
    found, chosen, config = said
    assert "--layout" in found
    assert chosen.startswith("Chosen:")
    assert config == f"Config: {tmp_path / 'run.jsonnet'}"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pytorch_seed"] == 7
    assert sorted(allencv.load(fitted.archive).labels) == ["Cat", "Dog"]
    assert fitted.lines()[0].endswith(" Best epoch: 1 of 1.")
    assert fitted.lines()[1].startswith("On the validation images: accuracy ")
    assert len(fitted.lines()) == 6 + (fitted.hint is not None)
    with pytest.raises(ConfigurationError, match="which has files; expected a new folder"):
        allencv.fit(str(cats_and_dogs), str(tmp_path / "run"))


def test_the_command_in_the_config_runs(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder that the comment names, for names with spaces and quotes too."""
    monkeypatch.chdir(tmp_path)
    options = FitOptions(
        epochs=1,
        image_size=16,
        folders=FolderOptions(layout="splits"),
        backbone="small_resnet",
    )
    fitted = allencv.fit(str(cats_and_dogs), "it's a run", options, say=lambda text: None)
    lines = (tmp_path / "it's a run.jsonnet").read_text().splitlines()
    assert lines[1:3] == [f"// To train it, in {tmp_path}:", "//"]
    program, command, *arguments = shlex.split(lines[3].removeprefix("//"))
    assert (program, command) == ("allencv", "train")
    config, _, again = arguments
    assert (config, again) == ("it's a run.jsonnet", "it's a run_again")
    train_in_folder(Params.from_file(config), again)
    assert (tmp_path / again / "model.tar.gz").exists()
    commands = [line for line in fitted.lines() if line.startswith("  allencv ")]
    assert len(commands) == 4
    for line in commands:
        assert any(word.startswith("it's a run") for word in shlex.split(line))
    with pytest.raises(ConfigurationError) as error:
        allencv.fit(str(cats_and_dogs), "it's a run")
    resume = """train 'it'"'"'s a run.jsonnet' -s 'it'"'"'s a run' --recover"""
    assert resume in str(error.value)


def test_missing_weights_are_told_first_and_last(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setattr(choices, "SMALL_IMAGE", 8)
    said: List[str] = []
    options = FitOptions(epochs=1, image_size=16, folders=FolderOptions(layout="splits"))
    fitted = allencv.fit(cats_and_dogs, tmp_path / "run", options, say=said.append)
    _, warning, chosen, _ = said
    assert warning.strip().startswith("WARNING: NO PRETRAINED WEIGHTS. Those of resnet18")
    assert "see the warning" in chosen
    assert fitted.lines()[-1] == warning.strip()
    assert fitted.warning is not None
    assert fitted.warning.split() == warning.split()
    longest = max(warning.splitlines(), key=len).strip()
    assert len(longest) <= 80 or " " not in longest  # a path or an address


def test_a_training_that_stopped_early_says_so() -> None:
    metrics = {"training_duration": "0:00:07.5", "best_epoch": 1, "epoch": 34}
    done = Fitted(Path("run"), {**metrics, "best_validation_accuracy": 0.5}, 100).lines()
    assert done[:2] == [
        "Done in 0:00:07. Best epoch: 2 of 35. Stopped early: 100 epochs were planned.",
        "On the validation images: accuracy 0.500",
    ]


@pytest.mark.parametrize(
    ("accuracy", "images", "expected"),
    [(0.6, 15, True), (0.9, 15, False), (0.6, 1500, False), (0.4, 1500, True), (None, 15, False)],
)
def test_a_model_that_has_learnt_nothing(
    accuracy: Optional[float], images: int, expected: bool
) -> None:
    """Half of the images have the most frequent label: 0.5 with a standard error of 0.13 for 15."""
    facts = DataFacts({"a": 2, "b": 1, "c": 1}, 4, images, 0, False, 8, 8, False, [])
    hint = hint_at_chance(accuracy, facts)
    assert (hint is not None) == expected
    assert hint is None or hint.startswith("A model that always answers a would be right for 0.5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs is 0; expected 1 or more"),
        ({"image_size": 7}, "--image-size is 7; expected 8 or more"),
        ({"epochs": 1, "time": "1m"}, "--epochs is 1 and --time is 1m; expected one of them"),
        ({"lr": "fast"}, "--lr is 'fast'; expected a number above 0, or 'auto'"),
        ({"lr": -1}, "--lr is -1; expected"),
        ({"lr": float("inf")}, "--lr is inf; expected"),
        ({"on_error": "stop"}, "--on-error is 'stop'; expected skip or fail"),
    ],
)
def test_options_that_cannot_be_used(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FitOptions(**options)


def test_a_table_or_list_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the columns, the delimiter and the samples of each split, even if it is compressed."""
    write_images(tmp_path, {"images": 12})
    rows = [f"images/{i:03d}.jpg{{0}}{'ab'[i % 2]}" for i in range(12)]
    table = "\n".join(["image{0}label", *rows]).format(";")
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(table.encode()))
    (tmp_path / "list.txt").write_text("\n".join(rows).format(" "))
    opened: List[str] = []

    @contextmanager
    def counted(path: str) -> Iterator[IO[bytes]]:
        opened.append(os.path.basename(path))
        with open(path, "rb") as file:
            yield file

    monkeypatch.setattr(remote, "open_file", counted)
    for data in ("table.csv.gz", "list.txt"):
        options = FitOptions(weights="none", backbone="small_resnet")
        config_for(str(tmp_path / data), "run", options, "the test", lambda text: None)
    assert opened == ["table.csv.gz", "list.txt"]


def test_the_learning_rate_may_be_a_number_or_a_word() -> None:
    assert FitOptions(lr="0.1").learning_rate() == FitOptions(lr=0.1).learning_rate() == 0.1
    assert FitOptions(lr="auto").learning_rate() is FitOptions().learning_rate() is None
