import logging
import os
from typing import Any, Dict, List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from allencv.common.checks import CheckedFromParams
from allencv.training.checkpointer import AtomicCheckpointer, save_state
from allencv.training.trainer_access import (
    best_metrics,
    checkpointer_of,
    epochs_before_start,
    has_moving_average,
    save_as_best,
    score_of,
    validate,
    validation_loader_of,
)

logger = logging.getLogger(__name__)

FIRST_WEIGHTS = "first_weights.th"
"""The file in the folder of a run with the weights before training."""

State = Dict[str, torch.Tensor]
SHARES = (0, 0.25, 0.5, 0.75)


@TrainerCallback.register("weight_interpolation")
class WeightInterpolation(CheckedFromParams, TrainerCallback):
    """
    Interpolates between the weights before training and the trained ones when training ends
    (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903). It is for fine-tuning a model that works
    already, with `start_from`: the weights between both are often better than either, and with the
    share 0 the result is never worse than the model before training.

    The weights of the best epoch count `share`, and those before training `1 - share`. Each share
    is validated. The best by the trainer's `validation_metric` becomes the model of the run and is
    written to `best.th`; of equally good ones, the one with the lower loss. The running statistics
    of batch normalisation are interpolated like weights, which fits best if they are frozen
    (`train_bn: false` of an encoder).

    `metrics.json` has `trained_share`, the metrics of this model as `interpolated_validation_...`,
    and those of share 0 as `first_validation_...`; `best_validation_...` are still those of the
    best epoch. All are slightly optimistic, because the same data decided between the weights.

    Registered as a `TrainerCallback` with name "weight_interpolation".

    # Parameters

    serialization_dir : `str`
        This argument does not get an entry in a configuration file.
    shares : `List[float]`, optional (default = `[0, 0.25, 0.5, 0.75]`)
        The shares to try, at least 0 and below 1. The trained weights, with the share 1, are always
        tried.

    # Raises

    `ConfigurationError` when training starts, if there are no validation data, or if the trainer
    averages the weights or spreads them over processes.
    """

    def __init__(self, serialization_dir: str, shares: Optional[List[float]] = None) -> None:
        super().__init__(serialization_dir)
        shares = list(SHARES if shares is None else shares)
        if not shares or not all(0 <= share < 1 for share in shares):
            raise ConfigurationError(
                f"shares of the callback 'weight_interpolation' is {shares}; expected "
                "numbers of at least 0 and below 1"
            )
        self.shares = shares

    @property
    def _file(self) -> str:
        return os.path.join(self.serialization_dir, FIRST_WEIGHTS)

    def on_start(
        self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any
    ) -> None:
        super().on_start(trainer, is_primary=is_primary, **kwargs)
        _check(trainer)
        if os.path.exists(self._file):  # of the run that is resumed
            return
        if epochs_before_start(trainer):
            raise ConfigurationError(
                f"{self._file} is missing, and the callback 'weight_interpolation' needs it to "
                "resume; expected this file, or no such callback"
            )
        if is_primary:
            save_state(trainer.model.state_dict(), self._file)

    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None or epoch is None:  # training has failed, or was interrupted
            return
        trained = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        first = torch.load(self._file, map_location="cpu", weights_only=True)
        found = {1.0: best_metrics(trainer)}
        for share in sorted(self.shares, reverse=True):
            trainer.model.load_state_dict(interpolated(first, trained, share))
            found[share] = validate(trainer, epoch)
        best = max(found, key=lambda share: score_of(trainer, found[share]))
        trainer.model.load_state_dict(interpolated(first, trained, best))
        metrics["trained_share"] = best
        metrics |= {f"interpolated_validation_{key}": value for key, value in found[best].items()}
        metrics |= {f"first_validation_{key}": value for key, value in found.get(0, {}).items()}
        logger.info("The share of the trained weights in the model is %g", best)
        if best < 1:
            save_as_best(trainer, os.path.join(self.serialization_dir, "best.th"))


def interpolated(first: State, trained: State, share: float) -> State:
    """
    Return `(1 - share) * first + share * trained` of each tensor, and the trained one of each
    counter.
    """
    return {
        name: torch.lerp(first[name].to(value), value, share)
        if value.is_floating_point() and share < 1
        else value
        for name, value in trained.items()
    }


def _check(trainer: GradientDescentTrainer) -> None:
    if not isinstance(trainer, GradientDescentTrainer):
        raise ConfigurationError(
            f"trainer.type makes a {type(trainer).__name__}; expected 'image' or "
            "'gradient_descent', whose weights the callback 'weight_interpolation' can change"
        )
    if validation_loader_of(trainer) is None:
        raise ConfigurationError(
            "trainer.callbacks has 'weight_interpolation', but there is no validation_data_path; "
            "expected validation data, which choose the weights"
        )
    if has_moving_average(trainer):
        raise ConfigurationError(
            "trainer.moving_average and the callback 'weight_interpolation' both change the "
            "weights at the end; expected one of them"
        )
    checkpointer = checkpointer_of(trainer)
    if isinstance(checkpointer, AtomicCheckpointer) and checkpointer.state_is_sharded:
        raise ConfigurationError(
            "trainer.ddp_accelerator spreads the weights over the processes; expected one that "
            "does not, as the callback 'weight_interpolation' needs whole weights"
        )
