"""Estimate how long an epoch of a config takes on this machine."""

import re
import tempfile
import time
from itertools import islice
from typing import Any, Dict

import torch
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import prepare_environment

from allencv.training.trainer_access import validation_loader_of

WARM_UP, STEPS, SECONDS = 2, 12, 15
"""Warm-up steps, the most steps that are timed, and the seconds after which timing stops."""
RESERVE = 0.15
"""The share of the time kept for what is not measured: checkpoints, the archive."""
UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Convert `"90s"`, `"10m"` or `"1.5h"` to seconds. Raise `ConfigurationError` for others."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigurationError(f"--time is {text!r}; expected a time such as 90s, 10m or 1.5h")
    return float(found[1]) * UNITS[found[2]]


def seconds_per_epoch(config: Dict[str, Any]) -> float:
    """Estimate the seconds of an epoch with its validation from some steps of each."""
    params = Params(config)
    prepare_environment(params)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TrainModel.from_params(
            params=params, serialization_dir=folder, local_rank=0
        ).trainer
        loader, validation = trainer.data_loader, validation_loader_of(trainer)
        assert validation is not None, "a config of fit has validation data"
        loader.set_target_device(trainer.cuda_device)
        validation.set_target_device(trainer.cuda_device)
        trainer.model.train()

        def train(batch: Any) -> None:
            trainer.optimizer.zero_grad()
            trainer.batch_outputs(batch, for_training=True)["loss"].backward()
            trainer.optimizer.step()

        def evaluate(batch: Any) -> None:
            with torch.no_grad():
                trainer.batch_outputs(batch, for_training=False)

        seconds = _time_per_step(loader, train, trainer.cuda_device) * len(loader)
        trainer.model.eval()
        return seconds + _time_per_step(validation, evaluate, trainer.cuda_device) * len(validation)


def _time_per_step(loader: Any, step: Any, device: torch.device) -> float:
    """Return seconds, data included. With `WARM_UP` batches or fewer, all count."""
    warm_up = WARM_UP if len(loader) > WARM_UP else 0
    started, steps, begun = time.perf_counter(), 0, time.perf_counter()
    for number, batch in enumerate(islice(iter(loader), warm_up + STEPS)):
        if number == warm_up:
            started = time.perf_counter()
        step(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps += number >= warm_up
        if steps and time.perf_counter() - begun > SECONDS:
            break
    return (time.perf_counter() - started) / max(steps, 1)
