"""What all schedules by epoch or step have in common, and the loop that they are made for."""

import io
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import Trainer, TrainerCallback
from allennlp.training.optimizers import Optimizer

import allencv.plugin
import allencv.training.optimizers  # noqa: F401
from tests.training.learning_rate_schedulers.sequences import (
    make_optimizer,
    make_schedule,
    rates,
    walk,
)
from tests.training.line import Batches, Line

KINDS: Dict[str, Dict[str, Any]] = {
    "one_cycle": {},
    "warmup_constant": {"warmup_epochs": 1.5},
    "warmup_cosine": {"warmup_epochs": 1.5},
    "warmup_multi_step": {"warmup_epochs": 1.5, "milestones": [2, 3]},
    "warmup_polynomial": {"warmup_epochs": 1.5},
    "warmup_step": {"warmup_epochs": 1.5, "step_size": 2},
}

every_kind = pytest.mark.parametrize("kind", KINDS)


class Stopped(Exception):
    pass


@TrainerCallback.register("write_down_rates")
class WriteDownRates(TrainerCallback):
    rates: List[float] = []
    stop_after: Optional[int] = None

    def on_batch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        self.rates.append(trainer.optimizer.param_groups[0]["lr"])
        if len(self.rates) == WriteDownRates.stop_after:
            WriteDownRates.stop_after = None
            raise Stopped


def make_trainer(folder: Path, schedule: Dict[str, Any], **params: Any) -> Trainer:
    return Trainer.from_params(
        Params(
            {
                "type": "image",
                "cuda_device": -1,
                "num_epochs": 4,
                "optimizer": {"type": "sgd", "lr": 1.0, "momentum": 0.9},
                "learning_rate_scheduler": schedule,
                "callbacks": ["write_down_rates"],
                "checkpointer": {"save_every_num_batches": 1},
                **params,
            }
        ),
        model=Line(),
        data_loader=Batches({"x": torch.tensor([float(x)])} for x in range(5)),
        serialization_dir=str(folder),
    )


@pytest.fixture
def written() -> List[float]:
    WriteDownRates.rates = []
    WriteDownRates.stop_after = None
    return WriteDownRates.rates


@every_kind
@pytest.mark.parametrize("by_epoch", [False, True])
def test_the_trainer_makes_its_steps_with_these_rates(
    tmp_path: Path, written: List[float], kind: str, by_epoch: bool
) -> None:
    schedule = {"type": kind, "by_epoch": by_epoch, **KINDS[kind]}
    make_trainer(tmp_path, schedule, checkpointer={}).train()
    assert written == rates(kind, by_epoch=by_epoch, **KINDS[kind])


@every_kind
@pytest.mark.parametrize("by_epoch", [False, True])
def test_recovered_training_goes_on_with_the_rates(
    tmp_path: Path, written: List[float], kind: str, by_epoch: bool
) -> None:
    schedule = {"type": kind, "by_epoch": by_epoch, **KINDS[kind]}
    for stop_after in (3, 10, 18):
        WriteDownRates.stop_after = stop_after
        with pytest.raises(Stopped):
            make_trainer(tmp_path, schedule).train()
        del written[-1]  # the step after which no checkpoint has been made
    make_trainer(tmp_path, schedule).train()
    assert written == rates(kind, by_epoch=by_epoch, **KINDS[kind])


def test_accumulated_batches_are_one_step(tmp_path: Path, written: List[float]) -> None:
    schedule = {"type": "warmup_cosine", "warmup_steps": 3}
    make_trainer(tmp_path, schedule, num_gradient_accumulation_steps=2).train()
    assert written == rates("warmup_cosine", steps=3, warmup_steps=3)


@every_kind
def test_groups_keep_their_ratios(kind: str) -> None:
    optimizer = make_optimizer([1.0, 0.25], momentum=0.9)
    schedule = make_schedule(optimizer, kind, **KINDS[kind])
    first, second = (group["lr"] for group in optimizer.param_groups)
    assert second == pytest.approx(first / 4)
    for step in range(20):
        schedule.step_batch(step + 1)
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(first / 4)
        optimizer.step()


@every_kind
def test_the_first_rate_is_set_from_the_beginning(kind: str) -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, kind, **KINDS[kind])
    first = schedule.get_values()
    assert walk(optimizer, schedule, end=1) == first
    assert first[0] > 0


@every_kind
def test_state_holds_nothing_that_torch_refuses_to_load(kind: str) -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, kind, **KINDS[kind])
    walk(optimizer, schedule, end=8)
    buffer = io.BytesIO()
    torch.save([schedule.state_dict(), optimizer.state_dict()], buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True)[0] == schedule.state_dict()


@every_kind
def test_steps_are_counted_if_nobody_tells_their_number(kind: str) -> None:
    optimizer = make_optimizer()
    schedule = make_schedule(optimizer, kind, **KINDS[kind])
    found = []
    for _ in range(20):
        schedule.step_batch()
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    assert found == rates(kind, **KINDS[kind])


@every_kind
def test_the_number_of_steps_must_be_known(kind: str) -> None:
    """Streamed data has no length."""
    with pytest.raises(ConfigurationError, match="num_steps_per_epoch is None.* by_epoch: true"):
        make_schedule(make_optimizer(), kind, steps=None, **KINDS[kind])
    for said in ({"by_epoch": True}, {"num_steps_per_epoch": 5}):
        optimizer = make_optimizer()
        schedule = make_schedule(optimizer, kind, steps=None, **KINDS[kind], **said)
        expected = rates(kind, by_epoch=said.get("by_epoch", False), **KINDS[kind])
        assert walk(optimizer, schedule) == expected


@every_kind
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_epochs", 30, "num_epochs is 30, longer than training: trainer.num_epochs is 4"),
        ("num_steps_per_epoch", 9, "is 9, longer than training: an epoch of .* has 5"),
    ],
)
def test_a_schedule_longer_than_training(kind: str, key: str, value: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_schedule(make_optimizer(), kind, **KINDS[kind], **{key: value})


@pytest.mark.parametrize("kind", ["warmup_cosine", "warmup_polynomial"])
@pytest.mark.parametrize("by_epoch", [False, True])
def test_a_schedule_shorter_than_training(
    kind: str, by_epoch: bool, caplog: pytest.LogCaptureFixture
) -> None:
    found = rates(kind, num_epochs=2, end_factor=0.1, by_epoch=by_epoch)
    assert found[:10] == rates(kind, epochs=2, end_factor=0.1, by_epoch=by_epoch)
    assert found[10:] == pytest.approx([0.1] * 10)
    warnings = [each.message for each in caplog.records if each.name.startswith("allencv")]
    expected = "The learning rate schedule ends after 10 steps (2 epochs of 5), and training"
    assert [text.startswith(expected) for text in warnings] == ([] if by_epoch else [True])


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"one_cycle"}))
@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"warmup_epochs": 4}, r"warmup_epochs is 4; .* 4 epochs of training \(trainer.num_epochs"),
        ({"warmup_epochs": 12.5}, "warmup_epochs is 12.5; expected at least 0 and less than the 4"),
        ({"warmup_epochs": -1}, "warmup_epochs is -1; expected at least 0"),
        ({"warmup_epochs": 0, "warmup_steps": 20}, "warmup_steps is 20; .* the 20 steps of train"),
        ({"warmup_epochs": 9, "by_epoch": True}, "warmup_epochs is 9; .* the 4 epochs"),
        ({"warmup_steps": 3}, "warmup_steps is 3 and warmup_epochs 1.5; expected one of them"),
        (
            {"warmup_epochs": 0, "warmup_steps": 3, "by_epoch": True},
            "warmup_steps is 3 and by_epoch true; expected warmup_epochs",
        ),
        ({"warmup_ratio": 0.1}, "warmup_ratio is 0.1 and warmup_epochs 1.5; expected one of them"),
        (
            {"warmup_epochs": 0, "warmup_steps": 3, "warmup_ratio": 0.1},
            "warmup_ratio is 0.1 and warmup_steps 3; expected one of them",
        ),
        (
            {"warmup_epochs": 0, "warmup_ratio": 1},
            "warmup_ratio is 1; expected a number from 0 to below 1",
        ),
        ({"warmup_epochs": 0, "warmup_ratio": -0.1}, "warmup_ratio is -0.1; expected a number"),
        ({"warmup": 3}, "a key of .* is 'warmup'; expected one of warmup_"),
    ],
)
def test_bad_warmups(kind: str, said: Dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_schedule(make_optimizer(), kind, **{**KINDS[kind], **said})


def test_a_warmup_of_a_part_of_a_step() -> None:
    found = rates("warmup_constant", warmup_epochs=0.3)  # of 5 steps: 1.5
    assert found == pytest.approx([1 / 2.5, 2 / 2.5] + [1.0] * 18)


def test_an_epoch_without_steps() -> None:
    with pytest.raises(ConfigurationError, match="num_steps_per_epoch is 0; expected at least 1"):
        make_schedule(make_optimizer(), "warmup_cosine", num_steps_per_epoch=0)


def test_an_optimizer_whose_rate_cannot_be_set() -> None:
    adafactor = Optimizer.by_name("adafactor")(list(Line().named_parameters()))
    with pytest.raises(ConfigurationError, match="trainer.optimizer.lr is None"):
        make_schedule(adafactor, "warmup_cosine")  # it chooses its own
