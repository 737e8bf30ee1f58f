import copy
import itertools
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.runtime.json_files import read_json
from allencv.training.resumable_state import ResumableState
from allencv.training.time_limit import TimeLimit, seconds_of
from tests.configs import experiment

EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES = 4, 100, 30
STEPS = EPOCHS * STEPS_PER_EPOCH
Speed = Callable[[float], float]
"""The seconds of a step at a time."""


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), ("2 m", 120)]
)
def test_seconds(text: str, seconds: float) -> None:
    assert seconds_of("--time", text) == seconds


@pytest.mark.parametrize("text", ["", "10", "0m", "-1m", "ten minutes", "1d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--time is .* such as 90s, 10m or 1.5h"):
        seconds_of("--time", text)


def train(limit: TimeLimit, step_time: Speed) -> Tuple[List[int], float]:
    """Train on a machine of some speed. Return the steps of the schedule, and the time."""
    now, steps = 0.0, []
    while not limit.is_over:
        steps.append(limit.advance(now))
        now += step_time(now)
        if len(steps) % STEPS_PER_EPOCH == 0 and not limit.is_over:
            validation = VALIDATION_BATCHES * step_time(now) / 3
            limit.add_validation(validation)
            now += validation
    return steps, now + VALIDATION_BATCHES * step_time(now) / 3


@pytest.mark.parametrize("seconds", [450, 10_000])
def test_nothing_changes_while_the_time_is_enough(seconds: float) -> None:
    limit = TimeLimit(seconds, EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES)
    steps, _ = train(limit, lambda now: 1.0)
    assert steps == list(range(1, STEPS + 1))


def test_slow_first_steps_do_not_count() -> None:
    limit = TimeLimit(500, EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES)
    steps, _ = train(limit, lambda now: 5.0 if now < 20 else 1.0)
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    "step_time",
    [
        lambda now: 2.0,
        lambda now: 20.0,
        lambda now: 1.0 if now < 300 else 10.0,
        lambda now: 1.0 if now < 100 else 3.0,
        lambda now: 1.0 + 3 * (int(now / 20) % 2),
    ],
    ids=["twice as slow", "slower than an epoch", "late", "early", "now and then"],
)
def test_on_a_slower_machine_the_schedule_ends_in_time(step_time: Speed) -> None:
    steps, seconds = train(TimeLimit(480, EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES), step_time)
    assert 400 < seconds < 480 * 1.2
    assert steps == sorted(set(steps)), "each step goes on"
    assert steps[-1] == STEPS, "the schedule comes to its end"
    strides = [after - before for before, after in itertools.pairwise(steps)]
    assert max(strides) <= STEPS / 8, "without a leap"


def test_a_recovered_run_goes_on_at_the_same_place() -> None:
    before = TimeLimit(480, EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES)
    for step in range(100):
        before.advance(3.0 * step)
    after = TimeLimit(480, EPOCHS, STEPS_PER_EPOCH, VALIDATION_BATCHES)
    after.step = before.step
    steps = [after.advance(300 + 3.0 * step) for step in range(60)]
    assert steps[0] == int(before.step) + 1
    assert steps[-1] == STEPS


@TrainerCallback.register("note_rates")
class NoteRates(TrainerCallback):
    rates: List[float] = []

    def on_batch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs["is_training"]:
            NoteRates.rates.append(trainer.optimizer.param_groups[0]["lr"])


@pytest.fixture
def seconds_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which each step takes 10 seconds, and nothing else takes time."""
    monkeypatch.setattr(
        ResumableState, "seconds", lambda self: 10 * self.trainer._total_batches_completed
    )
    monkeypatch.setattr(NoteRates, "rates", [])


def config_of_twelve_steps(images: Path, limit: Optional[str], epochs: int = 4) -> Dict[str, Any]:
    return experiment(
        images,
        data_loader__batch_size=2,
        trainer__num_epochs=epochs,
        trainer__learning_rate_scheduler={"type": "warmup_polynomial"},
        trainer__time_limit=limit,
        trainer__callbacks=["note_rates"],
    )


@pytest.mark.usefixtures("seconds_per_step")
def test_a_training_ends_within_an_epoch(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = config_of_twelve_steps(cats_and_dogs, "220s")
    train_model(Params(copy.deepcopy(config)), tmp_path)
    rates = NoteRates.rates
    assert 18 < len(rates) < 24, "of 48 steps"
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(rates[0] / 48)
    assert (
        f"in epoch 2 of 4, after {len(rates) - 12} of 12 steps"
        in (tmp_path / "out.log").read_text()
    )
    assert (tmp_path / "model.tar.gz").is_file()
    assert not (tmp_path / "metrics_epoch_2.json").exists()

    train_model(Params(copy.deepcopy(config)), tmp_path, recover=True)
    assert len(NoteRates.rates) < 24, "nothing was trained"
    assert (
        "ended after 2 of 4 epochs, because of trainer.time_limit"
        in (tmp_path / "out.log").read_text()
    )


@pytest.mark.usefixtures("seconds_per_step")
def test_a_run_that_is_cut_off_after_its_last_step(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = config_of_twelve_steps(cats_and_dogs, "220s")
    config["trainer"]["checkpointer"] = {
        "save_every_num_batches": 1,
        "keep_most_recent_by_count": 3,
    }
    train_model(Params(copy.deepcopy(config)), tmp_path)
    rates = list(NoteRates.rates)
    metrics = read_json(tmp_path / "metrics.json")
    assert (tmp_path / f"training_state_e1_b{len(rates) - 12}.th").exists()
    for name in ("training_state_e2_b0.th", "model_state_e2_b0.th", "model.tar.gz"):
        (tmp_path / name).unlink()

    train_model(Params(copy.deepcopy(config)), tmp_path, recover=True)
    assert NoteRates.rates == rates, "no further step"
    again = read_json(tmp_path / "metrics.json")
    for name in ("training_loss", "validation_loss", "best_epoch"):
        assert again[name] == metrics[name]


@pytest.mark.usefixtures("seconds_per_step")
def test_a_limit_that_is_not_reached_changes_nothing(cats_and_dogs: Path, tmp_path: Path) -> None:
    rates = []
    for limit in (None, "200s"):
        NoteRates.rates = []
        config = config_of_twelve_steps(cats_and_dogs, limit, epochs=1)
        train_model(Params(config), tmp_path / str(limit))
        rates.append(NoteRates.rates)
    assert rates[0] == rates[1]
    assert len(rates[0]) == 12


def test_what_has_no_time_limit(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = config_of_twelve_steps(cats_and_dogs, "a while")
    with pytest.raises(ConfigurationError, match="trainer.time_limit is 'a while'; expected a"):
        train_model(Params(config), tmp_path)
