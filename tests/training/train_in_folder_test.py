"""What a run does to its folder: before it begins, when it fails, and when it is recovered."""

import json
import logging
import resource
import shutil
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.training import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.training import TrainingError
from allencv.training.train_in_folder import train_in_folder
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.run_folder_test import held_by_another_process

RATES: Dict[int, float] = {}


@TrainerCallback.register("keep_rates")
class SeeRates(TrainerCallback):
    """Keeps the learning rate of each step."""

    def on_batch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs["is_training"]:
            RATES[trainer._total_batches_completed] = trainer.optimizer.param_groups[0]["lr"]


UNCHANGING = {
    "trainer__optimizer": {"type": "sgd", "lr": 0.0},
    "model__im2im_encoder": {
        **{"type": "feedforward", "input_channels": 3, "num_layers": 1, "hidden_channels": 16},
        **{"activations": "relu", "batch_norm": False},
    },
}
"""A model whose validation loss stays the same."""


class Run:
    """A config and a folder to train it in, as `allencv train` does."""

    def __init__(self, data: Path, folder: Path, **overrides: Any) -> None:
        self.data, self.overrides = data, overrides
        self.file, self.folder = folder / "config.json", folder / "run"

    def train(
        self, recover: bool = False, force: bool = False, **overrides: Any
    ) -> Optional[Model]:
        config = experiment(self.data, **{**self.overrides, **overrides})
        return train_in_folder(Params(config), self.folder, recover=recover, force=force)

    def read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


@pytest.fixture
def run(cats_and_dogs: Path, tmp_path: Path) -> Run:
    RATES.clear()
    less = {"data_loader__batch_size": 8, "trainer__enable_default_callbacks": False}
    return Run(cats_and_dogs, tmp_path, trainer__num_epochs=1, trainer__use_amp=False, **less)


@pytest.mark.parametrize("how", ["begun", "recover", "force"])
def test_a_folder_in_use_is_left_alone(run: Run, how: str) -> None:
    run.folder.mkdir()
    (run.folder / "config.json").write_text("{}")
    with (
        held_by_another_process(run.folder),
        pytest.raises(ConfigurationError, match="another run is writing to"),
    ):
        run.train(**({} if how == "begun" else {how: True}))
    assert [path.name for path in run.folder.iterdir()] == ["config.json"]


class Stop(Exception):
    pass


@TrainerCallback.register("look_around")
class LookAround(TrainerCallback):
    """Sees during training whether another run could begin."""

    refused = 0

    def on_epoch(self, *args: Any, **kwargs: Any) -> None:
        import subprocess
        import sys

        code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 6)"
        LookAround.refused += subprocess.call(
            [sys.executable, "-c", code, str(self.serialization_dir)], stderr=subprocess.DEVNULL
        )


def test_nobody_else_can_begin_while_a_run_lasts(run: Run) -> None:
    LookAround.refused = 0
    run.train(trainer__callbacks=["look_around"])
    assert LookAround.refused == 1


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    "mistake",
    [
        {"train_data_path": "nowhere"},
        {"model__im2im_encoder": {"type": "timm", "model_name": "no_such_network"}},
        {"trainer__validation_metric": "+acuracy"},
    ],
    ids=str,
)
def test_a_run_that_never_began_leaves_nothing(
    run: Run, existed: bool, mistake: Dict[str, Any]
) -> None:
    if existed:
        run.folder.mkdir()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever is wrong
        run.train(**mistake)
    assert run.folder.is_dir() == existed
    assert not existed or list(run.folder.iterdir()) == []
    assert run.train(recover=existed) is not None  # with nothing to recover, a run begins


def test_a_run_that_was_killed_before_a_checkpoint_begins_anew(run: Run) -> None:
    for how in ({}, {"recover": True}):
        (run.folder / "vocabulary").mkdir(parents=True)
        (run.folder / "vocabulary" / "labels.txt").write_text("Bird\nCat")
        (run.folder / "config.json").write_text('{"model": "another"}')
        for name in ("out.log", "meta.json"):
            (run.folder / name).write_text("killed")
        assert run.train(**how) is not None
        assert "Bird" not in (run.folder / "vocabulary" / "labels.txt").read_text()
        shutil.rmtree(run.folder)


def test_a_config_in_the_folder_is_kept(run: Run) -> None:
    run.file.write_text(json.dumps(experiment(run.data, **run.overrides)))
    for how in ({}, {"recover": True}):
        with pytest.raises(ConfigurationError, match=f"{run.file.parent} has"):
            train_in_folder(Params.from_file(run.file), run.file.parent, **how)
    assert [path.name for path in run.file.parent.iterdir()] == ["config.json"]


def test_files_that_are_there_are_kept(run: Run) -> None:
    run.folder.mkdir()
    (run.folder / "photo.jpg").write_text("mine")
    with pytest.raises(
        ConfigurationError, match=r"run has files in it; expected a new folder, --r"
    ):
        run.train()
    with pytest.raises(ConfigurationError, match="has no checkpoint of a run; expected"):
        run.train(recover=True)
    with pytest.raises(ConfigurationError, match="--recover and --force are both given"):
        run.train(recover=True, force=True)
    assert (run.folder / "photo.jpg").read_text() == "mine"
    run.train(force=True)
    assert not (run.folder / "photo.jpg").exists()
    assert (run.folder / "model.tar.gz").exists()


def test_a_lost_run_goes_on_with_a_lower_rate(run: Run) -> None:
    lost = {"type": "sgd", "lr": 1e18}
    with pytest.raises(TrainingError, match="the loss is"):
        run.train(trainer__optimizer=lost)
    assert (run.folder / "not_finite.th").exists()
    # It has no checkpoint, so that it may even have another config.
    run.train(recover=True, trainer__optimizer={"type": "adamw", "lr": 0.001})
    assert run.read("config.json")["trainer"]["optimizer"]["type"] == "adamw"
    assert not (run.folder / "not_finite.th").exists()


@pytest.mark.parametrize(
    "schedule",
    [
        {"type": "warmup_cosine", "warmup_epochs": 1},
        {"type": "warmup_cosine", "by_epoch": True},
        {"type": "one_cycle"},
        {"type": "one_cycle", "by_epoch": True},
        {"type": "linear_with_warmup", "warmup_steps": 2},
    ],
    ids=str,
)
def test_a_finished_run_is_extended_as_if_it_had_been_longer(
    run: Run, schedule: Dict[str, Any]
) -> None:
    """From where it goes on, it has the learning rates of a run of the new length."""
    config = {
        "trainer__optimizer": {"type": "sgd", "lr": 0.02, "momentum": 0.9},
        "trainer__learning_rate_scheduler": schedule,
        "trainer__callbacks": ["keep_rates"],
    }
    run.train(trainer__num_epochs=3, **config)
    expected = dict(RATES)
    run.train(force=True, trainer__num_epochs=2, **config)
    RATES.clear()
    run.train(recover=True, trainer__num_epochs=3, **config)
    assert sorted(RATES) == [7, 8, 9]
    for step, rate in RATES.items():
        assert rate == pytest.approx(expected[step]), step
    assert run.read("metrics.json")["epoch"] == 2
    assert run.read("config.json")["trainer"]["num_epochs"] == 3
    said = "Resuming with a changed config: trainer.num_epochs is 3 (was 2)"
    assert said in (run.folder / "out.log").read_text()


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        {"type": "warmup_cosine"},
        {"type": "one_cycle"},
        {"type": "cosine", "t_initial": 4},
        {"type": "step", "step_size": 1},
    ],
    ids=str,
)
def test_a_changed_learning_rate_is_scheduled_as_the_old_one(
    run: Run, schedule: Optional[Dict[str, Any]]
) -> None:
    def config(rate: float) -> Dict[str, Any]:
        return {
            "trainer__num_epochs": 3,
            "trainer__optimizer": {"type": "sgd", "lr": rate},
            "trainer__learning_rate_scheduler": schedule,
            "trainer__callbacks": ["keep_rates", "power_cut"],
        }

    from tests.training.callbacks import interruption

    run.train(**config(0.01))
    expected = dict(RATES)
    run.folder.rename(run.folder.with_name("whole"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interruption.CutPower, "at", (1, 3))
        with pytest.raises(interruption.PowerCut):
            run.train(**config(0.01))
    RATES.clear()
    run.train(recover=True, **config(0.002))
    assert min(RATES) == 4
    for step, rate in RATES.items():
        assert rate == pytest.approx(expected[step] / 5), step


def test_what_cannot_change_is_refused_and_what_can_is_taken(run: Run) -> None:
    run.train()
    before = {path.name: path.read_bytes() for path in run.folder.glob("*.*")}
    with pytest.raises(ConfigurationError, match=r"model.dropout is 0.5 \(was 0.2\); change"):
        run.train(recover=True, model__dropout=0.5)
    assert {path.name: path.read_bytes() for path in run.folder.glob("*.*")} == before
    weights = torch.load(run.folder / "best.th")
    run.train(recover=True, trainer__patience=3)
    assert run.read("config.json")["trainer"]["patience"] == 3
    assert same_tensors(torch.load(run.folder / "best.th"), weights)
    run.train(recover=True, trainer__num_epochs=2, trainer__optimizer={"type": "adamw", "lr": 0.1})
    with pytest.raises(ConfigurationError, match="num_epochs is 1, but the run in .* has reached"):
        run.train(recover=True, trainer__optimizer={"type": "adamw", "lr": 0.1})


def test_the_checkpoint_says_how_many_images_a_step_had_with_torchrun(run: Run) -> None:
    run.train()
    (run.folder / "out_worker0.log").touch()  # a rank wrote it, and the config names no ranks
    before = (run.folder / "config.json").read_text()
    more = {"recover": True, "trainer__num_epochs": 2}
    with pytest.raises(ConfigurationError, match="8 images per step, and would .* process and 16"):
        run.train(**more, data_loader__batch_size=16)
    assert (run.folder / "config.json").read_text() == before


def test_a_recovery_with_nothing_left_to_train_says_why(run: Run) -> None:
    rate = {**UNCHANGING, "trainer__patience": 1}
    run.train(trainer__num_epochs=4, **rate)
    run.train(recover=True, trainer__num_epochs=4, **rate)
    log = (run.folder / "out.log").read_text()
    assert log.count("Nothing is left to train: ") == 1
    assert (
        "ended after 2 of 4 epochs, because its best epoch is 1 and trainer.patience is 1. Raise "
        "trainer.patience to continue" in log
    )
    run.train(recover=True, trainer__num_epochs=2, **rate)
    log = (run.folder / "out.log").read_text()
    assert "has completed 2 epochs, as trainer.num_epochs says. Raise trainer.num_epochs" in log


@pytest.mark.parametrize(
    "refused",
    [
        {"trainer__num_epochs": 1},
        {"trainer__cuda_device": 1000},
        {"trainer__num_epochs": 3, "trainer__callbacks": [{"type": "keep_rates", "wrong": 1}]},
    ],
    ids=str,
)
def test_a_refused_recovery_leaves_every_file_as_it_was(run: Run, refused: Dict[str, Any]) -> None:
    def files() -> Dict[str, bytes]:
        found = run.folder.rglob("*")
        return {str(path): path.read_bytes() for path in found if path.is_file()}

    callbacks = {"trainer__callbacks": [{"type": "keep_rates"}], "trainer__num_epochs": 2}
    run.train(**callbacks)
    before = files()
    with pytest.raises(ConfigurationError):
        run.train(recover=True, **{**callbacks, **refused})
    assert files() == before


def test_a_config_counts_once_there_is_a_checkpoint_of_it(run: Run) -> None:
    from tests.training.callbacks import interruption

    cut = {"trainer__callbacks": ["power_cut"]}
    run.train(trainer__num_epochs=1, **cut)
    for at, expected in (((1, 3), 1), ((2, 3), 4)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interruption.CutPower, "at", at)
            with pytest.raises(interruption.PowerCut):
                run.train(recover=True, trainer__num_epochs=4, **cut)
        assert run.read("config.json")["trainer"]["num_epochs"] == expected
        log = (run.folder / "out.log").read_text()
        assert "trainer.num_epochs is 4 (was 1)" in log  # what was tried is kept


def test_a_run_that_lost_patience_goes_on_with_more_of_it(run: Run) -> None:
    rate = {**UNCHANGING, "trainer__num_epochs": 4}
    run.train(trainer__patience=1, **rate)
    assert run.read("metrics.json")["epoch"] == 1
    run.train(recover=True, trainer__patience=2, **rate)
    assert run.read("metrics.json")["epoch"] == 2


@pytest.mark.parametrize("most", [20_000, 200])
def test_a_full_disk_ends_in_a_line_that_names_a_place(
    run: Run, most: int, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    params = Params(experiment(run.data, **run.overrides))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            train_in_folder(params, run.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        logging.getLogger().handlers.clear()
    assert str(error.value.filename).startswith(str(run.folder))
    assert "Logging error" not in capfd.readouterr().err
    assert run.folder.exists() == (most > 1000)  # the metrics of an epoch are kept
    assert run.train() is not None
