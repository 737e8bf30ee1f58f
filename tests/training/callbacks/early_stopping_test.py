"""AllenNLP's `patience`: what it counts is part of a checkpoint."""

from pathlib import Path
from typing import Tuple

import pytest
import torch

import allencv.plugin  # noqa: F401
import tests.training.surprise  # noqa: F401
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted, weights


@pytest.mark.parametrize("at", [(1, 6), (2, 3)])
def test_patience_counts_the_epochs_of_before_an_interruption(
    cats_and_dogs: Path, tmp_path: Path, at: Tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(
        cats_and_dogs,
        trainer__num_epochs=10,
        trainer__patience=2,
        model__metrics={"surprise": "surprise"},
        trainer__validation_metric="+surprise",  # which the first epoch has most of
        trainer__optimizer={"type": "sgd", "lr": 0.05},
        trainer__callbacks=["power_cut"],
        trainer__checkpointer={"keep_most_recent_by_count": None},
    )
    straight, interrupted = tmp_path / "straight", tmp_path / "interrupted"
    train(config, straight)
    model = train_interrupted(config, interrupted, at, monkeypatch)
    expected, metrics = metrics_of(straight), metrics_of(interrupted)
    assert (expected["best_epoch"], expected["epoch"]) == (0, 2)
    for key in ("best_epoch", "epoch", "best_validation_loss", "validation_loss"):
        assert metrics[key] == expected[key]
    assert same_tensors(model.state_dict(), weights(straight, 1))
    assert same_tensors(torch.load(interrupted / "best.th"), weights(straight, 1))
