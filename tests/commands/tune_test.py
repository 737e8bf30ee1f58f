import contextlib
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params

import allencv.plugin  # noqa: F401
from allencv.runtime.errors import InputError
from tests.configs import experiment
from tests.conftest import run_with_forked_runs, same_tensors, write_images

pytest.importorskip("optuna")

SPACE = '{"trainer.optimizer.lr": {"log_uniform": [1e-3, 0.1]}, "model.dropout": [0, 0.2]}'


tune = partial(run_with_forked_runs, "tune")


def read(file: Path) -> Dict[str, Any]:
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the validation images have the colour of the other class. It has test data."""
    root = tmp_path_factory.mktemp("pets")
    write_images(root / "train", {"Cat": 6, "Dog": 6}, seed=0)
    write_images(root / "val", {"Cat": 2, "Dog": 2}, seed=1)
    write_images(root / "val", {"Dog": 2, "Cat": 2}, seed=2, suffix=".png")
    content = experiment(root, trainer__num_epochs=2, trainer__validation_metric="-loss")
    content |= {"test_data_path": str(root / "val"), "evaluate_on_test": True}
    (root / "config.json").write_text(json.dumps(content))
    return root / "config.json"


@pytest.fixture(scope="module")
def tuned(config: Path) -> Path:
    folder = config.parent / "runs"
    with contextlib.redirect_stdout(None):
        tune(config, "-s", folder, "--trials", 3, "--space", SPACE, "--parallel", 2)
    return folder


def test_trials_are_trained(tuned: Path) -> None:
    content = read(tuned / "tune.json")
    trials = content["trials"]
    assert [trial["name"] for trial in trials] == ["trial_0", "trial_1", "trial_2"]
    for trial in trials:
        assert trial["state"] == "finished"
        assert trial["metrics"] == read(tuned / trial["name"] / "metrics.json")
        assert trial["score"] == -trial["metrics"]["best_validation_loss"]
        assert len(trial["epoch_scores"]) == 2
        assert not any(key.startswith("test_") for key in trial["metrics"])
        config = read(tuned / trial["name"] / "config.json")
        assert config["model"]["dropout"] == trial["values"]["model.dropout"]
    assert content["best"] == max(trials, key=lambda trial: trial["score"])["name"]
    assert [path.parent.name for path in tuned.glob("*/model.tar.gz")] == [content["best"]]


def test_the_best_config_gives_the_best_weights(tuned: Path, tmp_path: Path) -> None:
    train_model(Params.from_file(tuned / "best.json"), tmp_path)
    best = tuned / read(tuned / "tune.json")["best"]
    assert same_tensors(*(torch.load(folder / "best.th") for folder in (tmp_path, best)))
    assert "test_accuracy" in read(tmp_path / "metrics.json")


def test_more_trials_are_added(
    config: Path, tuned: Path, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    """The space may be in a file."""
    before = read(tuned / "tune.json")["trials"]
    (tmp_path / "space.libsonnet").write_text(SPACE)
    (tmp_path / "space.jsonnet").write_text('import "space.libsonnet"')
    tune(config, "-s", tuned, "--trials", 4, "--space", tmp_path / "space.jsonnet")
    after = read(tuned / "tune.json")["trials"]
    assert after[:3] == before
    output = capsys.readouterr().out
    assert output.count("training") == 1
    assert "trial_3: loss" in output
    assert f"all results: {tuned / 'tune.json'}" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", 0], "--trials is 0; expected at least 1"),
        (["--parallel", 0], "--parallel is 0; expected at least 1"),
        (["--space", "{"], "--space is '{', which cannot be read"),
        (["--space", "space.json"], "--space is 'space.json', which cannot be read (No such file"),
        (["--space", "[1]"], "expected an object"),
        (["--space", '{"a": 1}'], "--space: a is 1; expected a list of values"),
    ],
)
def test_what_cannot_be_tried(
    config: Path, tmp_path: Path, arguments: List[Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        tune(config, "-s", tmp_path / "runs", "--space", SPACE, *arguments)


def test_a_space_that_is_not_text(config: Path, tmp_path: Path) -> None:
    (tmp_path / "space.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"space.json', which cannot be read \(it is not UTF-8\)"):
        tune(config, "-s", tmp_path / "runs", "--space", tmp_path / "space.json")


def test_without_optuna(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match='tune needs Optuna, .* pip install "optuna>=5"'):
        tune(config, "-s", tmp_path / "runs", "--space", SPACE)
