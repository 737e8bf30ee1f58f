"""Estimate how long an epoch of a config takes on this machine."""

import tempfile
import time
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Callable, Dict

import torch
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.common.util import prepare_environment

from allencv.training.trainer_access import validation_loader_of

WARM_UP, SECONDS, PASSES = 2, 15, 1000
"""Steps that are not timed, the most seconds of timing, and the most passes over the data."""
RESERVE = 0.1
"""The share of the time kept for what is not measured: the archive, and a varying speed."""


@dataclass
class EpochTime:
    """How long a training takes, in seconds."""

    each: float
    """An epoch, with its validation and its checkpoint."""
    once: float
    """What comes before and after the epochs: the model is built, and the best one evaluated."""
    validation: float
    """One pass over the validation images."""


def time_epoch(config: Dict[str, Any], seconds: float) -> EpochTime:
    """
    Time training and validation for about `seconds` in all (at most 15): whole epochs if they are
    short, or else some steps of one.
    """
    started = time.perf_counter()
    params = Params(config)
    prepare_environment(params)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TrainModel.from_params(
            params=params, serialization_dir=folder, local_rank=0
        ).trainer
        building = time.perf_counter() - started
        loader, validation = trainer.data_loader, validation_loader_of(trainer)
        assert validation is not None, "a config of fit has validation data"
        loader.set_target_device(trainer.cuda_device)
        validation.set_target_device(trainer.cuda_device)

        def train(batch: Any) -> None:
            trainer.optimizer.zero_grad()
            trainer.batch_outputs(batch, for_training=True)["loss"].backward()
            trainer.optimizer.step()
            _wait_for(trainer.cuda_device)

        def evaluate(batch: Any) -> None:
            with torch.no_grad():
                trainer.batch_outputs(batch, for_training=False)
            _wait_for(trainer.cuda_device)

        seconds = min(seconds, SECONDS)
        trainer.model.train()
        training = seconds_per_pass(loader, train, seconds * 2 / 3)
        trainer.model.eval()
        evaluation = seconds_per_pass(validation, evaluate, seconds / 3)
        started = time.perf_counter()
        torch.save([trainer.model.state_dict(), trainer.optimizer.state_dict()], f"{folder}/a.th")
        saving = time.perf_counter() - started
    return EpochTime(
        training + evaluation + saving, building + 2 * evaluation + 2 * saving, evaluation
    )


def seconds_per_pass(loader: Any, step: Callable[[Any], None], seconds: float) -> float:
    """
    Return the seconds of a pass over the data, from passes for about `seconds`: the first steps,
    which are slower, do not count, and a pass that is not over counts in part.
    """
    begun = started = now = time.perf_counter()
    steps = 0
    for number, batch in enumerate(chain.from_iterable(repeat(loader, PASSES)), start=1):
        step(batch)
        now = time.perf_counter()
        if number <= WARM_UP:
            started = now
            continue
        steps += 1
        if now - begun > seconds:
            break
    return (now - started) / max(steps, 1) * len(loader)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
