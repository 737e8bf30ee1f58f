from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.training.callbacks import ProgressiveResizing
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.callbacks.interruption import train, train_interrupted, weights


def build(**params: Any) -> ProgressiveResizing:
    callback = TrainerCallback.from_params(
        Params({"type": "progressive_resizing", **params}), serialization_dir="run"
    )
    assert isinstance(callback, ProgressiveResizing)
    return callback


SCHEDULES: List[Tuple[Dict[str, int], List[Optional[int]]]] = [
    # By a quarter of 96 pixels an epoch: 128, 152, 176, 200
    ({}, [128, 128, 160, 192, None]),
    ({"multiple_of": 1}, [128, 152, 176, 200, None]),
    ({"initial_epochs": 2, "full_size_epochs": 2}, [128, 128, 160, None, None]),
    ({"initial_epochs": 3, "full_size_epochs": 2}, [128, 128, 128, None, None]),
    ({"full_size_epochs": 4}, [128, None, None, None, None]),
]


@pytest.mark.parametrize(("params", "expected"), SCHEDULES)
def test_sizes(params: Dict[str, int], expected: List[Optional[int]]) -> None:
    callback = build(initial_size=128, final_size=224, **params)
    assert [callback.size(epoch, 5) for epoch in range(5)] == expected


MISTAKES = [
    ({"initial_size": 100}, "is 100; expected a multiple of 32"),
    ({"initial_size": 224}, "is 224; expected a multiple of 32 .* below 224"),
    ({"initial_size": 0}, "is 0; expected a multiple"),
    ({"initial_size": 128, "initial_epochs": 0}, "initial_epochs .* is 0; expected at least 1"),
    ({"initial_size": 128, "full_size_epochs": 0}, "is 0; expected at least 1"),
    ({"initial_size": 128, "size": 1}, "'size'; expected one of"),
]


@pytest.mark.parametrize(("params", "message"), MISTAKES)
def test_a_mistake_in_the_config_is_named(params: Dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build(final_size=224, **params)


@TrainerCallback.register("record_sizes")
class RecordSizes(TrainerCallback):
    """What the encoder has been given in each step, when training and when not."""

    seen: List[Tuple[bool, int]] = []

    def on_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        trainer.model._im2im_encoder.register_forward_hook(
            lambda module, images, output: self.seen.append((module.training, images[0].shape[-1]))
        )


@pytest.fixture(autouse=True)
def seen() -> List[Tuple[bool, int]]:
    RecordSizes.seen.clear()
    return RecordSizes.seen


def resizing(data: Path, **params: Any) -> Dict[str, Any]:
    params = {"initial_size": 16, "final_size": 32, "multiple_of": 8, **params}
    callback = {"type": "progressive_resizing", **params}
    return experiment(
        data,
        data_loader__batch_size=12,
        trainer__checkpointer={"save_every_num_batches": 1, "keep_most_recent_by_count": None},
        trainer__callbacks=[callback, "record_sizes", "power_cut"],
        trainer__enable_default_callbacks=False,
    )


def test_images_grow_in_training_only(
    cats_and_dogs: Path, tmp_path: Path, seen: List[Tuple[bool, int]]
) -> None:
    train(resizing(cats_and_dogs), tmp_path)
    # Two batches in each of three epochs; one for validation.
    expected = [step for size in (16, 24, 32) for step in [(True, size), (True, size), (False, 32)]]
    assert seen == expected


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_the_size_of_its_epoch(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resizing(cats_and_dogs)
    train(config, tmp_path / "straight")
    expected = weights(tmp_path / "straight", 3)
    for at in ((0, 2), (1, 2), (2, 1)):
        interrupted = tmp_path / f"interrupted at {at}"
        train_interrupted(config, interrupted, at, monkeypatch)
        assert same_tensors(weights(interrupted, 3), expected), at


def test_too_few_epochs_are_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = resizing(cats_and_dogs, initial_epochs=2, full_size_epochs=2)
    with pytest.raises(ConfigurationError, match="num_epochs is 3; expected at least 4"):
        train(config, tmp_path)


def test_a_model_that_does_not_resize_is_refused(tmp_path: Path) -> None:
    class Trainer:
        model = torch.nn.Linear(1, 1)

    with pytest.raises(ConfigurationError, match=r"a Linear, which has no set_training_size\(\)"):
        build(initial_size=32, final_size=64).on_start(Trainer())
