"""Train for some steps with a rising learning rate, to see where the loss falls fastest."""

from contextlib import nullcontext
from typing import List, Optional, Sequence, Tuple

import numpy as np
from allennlp.commands.find_learning_rate import search_learning_rate
from allennlp.commands.train import TrainModel
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import prepare_environment

from allencv.training.image_trainer import ImageTrainer


def learning_rates_and_losses(
    params: Params,
    serialization_dir: Optional[str] = None,
    start_lr: float = 1e-5,
    end_lr: float = 10,
    num_batches: int = 100,
    linear_steps: bool = False,
    stopping_factor: Optional[float] = None,
) -> Tuple[List[float], List[float]]:
    """
    Return the learning rate of each step and the loss before it, smoothed by a moving average
    (Smith 2017, arXiv:1506.01186, section 3.3). The config may have any kind of trainer.

    # Parameters

    linear_steps : `bool`
        Whether each step raises the learning rate by the same amount, not by the same factor.
    stopping_factor : `float`
        Stop when the loss exceeds this multiple of the smallest one.
    """
    if params.get("distributed"):
        raise ConfigurationError(
            "find-lr searches on one device; expected a config without 'distributed'"
        )
    prepare_environment(params)
    trained = TrainModel.from_params(
        params=params, serialization_dir=serialization_dir, local_rank=0
    )
    trainer = trained.trainer
    is_ours = isinstance(trainer, ImageTrainer)
    if is_ours and not trainer.takes_steps:
        raise ConfigurationError(
            f"trainer.type makes a {type(trainer).__name__}, which has no learning rate; expected "
            "one that takes gradient steps, such as 'image'"
        )
    with trainer.features_in_place_of_images() if is_ours else nullcontext():
        rates, losses = search_learning_rate(
            trainer,
            start_lr=start_lr,
            end_lr=end_lr,
            num_batches=num_batches,
            linear_steps=linear_steps,
            stopping_factor=stopping_factor,
        )
    return rates, smooth(losses)


def smooth(losses: Sequence[float], momentum: float = 0.9) -> List[float]:
    """Return the exponential moving average, with its start corrected as in Adam."""
    mean, smoothed = 0.0, []
    for step, loss in enumerate(losses, 1):
        mean = momentum * mean + (1 - momentum) * loss
        smoothed.append(mean / (1 - momentum**step))
    return smoothed


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float:
    """
    Return the learning rate at which the smoothed loss falls fastest over the logarithm of the
    rate, before the minimum of the loss. Higher learning rates may diverge.

    # Raises

    `ConfigurationError` if the loss does not fall.
    """
    finite = np.isfinite(losses)
    end = int(np.argmin(np.where(finite, losses, np.inf)))
    # The first losses depend on the random start.
    begin = min(3, end)
    if end - begin < 2:
        raise ConfigurationError(
            f"the loss does not fall between learning rates of {rates[0]:.2g} and {rates[-1]:.2g}; "
            "set the learning rate by hand"
        )
    slopes = np.gradient(losses[begin : end + 1], np.log(rates[begin : end + 1]))
    return float(rates[begin + int(np.argmin(slopes))])
