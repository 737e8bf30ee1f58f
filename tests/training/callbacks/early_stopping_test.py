"""AllenNLP's `patience`: what it counts is part of a checkpoint."""

from pathlib import Path

import pytest
import torch

import allencv.plugin  # noqa: F401
import tests.training.surprise  # noqa: F401
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted, weights


@pytest.mark.slow
def test_patience_counts_the_epochs_of_before_an_interruption(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    train(config, tmp_path / "straight")
    expected, best = metrics_of(tmp_path / "straight"), weights(tmp_path / "straight", 1)
    assert (expected["best_epoch"], expected["epoch"]) == (0, 2)
    for at in ((1, 6), (2, 3)):
        interrupted = tmp_path / f"interrupted at {at}"
        model = train_interrupted(config, interrupted, at, monkeypatch)
        metrics = metrics_of(interrupted)
        for key in ("best_epoch", "epoch", "best_validation_loss", "validation_loss"):
            assert metrics[key] == expected[key], at
        assert same_tensors(model.state_dict(), best)
        assert same_tensors(torch.load(interrupted / "best.th"), best)
