import warnings
from typing import List, Union

import torch
from allennlp.training.learning_rate_schedulers.learning_rate_scheduler import (
    LearningRateScheduler,
    _PyTorchLearningRateSchedulerWithMetricsWrapper,
)
from allennlp.training.optimizers import Optimizer

from allencv.common.checks import not_one_of


@LearningRateScheduler.register("reduce_on_plateau", exist_ok=True)
class ReduceOnPlateauLearningRateScheduler(_PyTorchLearningRateSchedulerWithMetricsWrapper):
    """
    Lowers the learning rate when the validation metric has stopped improving, with
    [PyTorch's `ReduceLROnPlateau`](https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html).

    Stands in for AllenNLP's class, which hands PyTorch the argument `verbose` that it no longer
    takes (`training/learning_rate_schedulers/pytorch_lr_schedulers.py`) and so cannot be built.

    Registered as a `LearningRateScheduler` with name "reduce_on_plateau".

    # Parameters

    optimizer : `Optimizer`
        This argument does not get an entry in a configuration file.
    mode : `str`, optional (default = `"min"`)
        `"min"` when a lower metric is better, `"max"` when a higher one is.
    factor : `float`, optional (default = `0.1`)
        The learning rate is multiplied by this; below 1.
    patience : `int`, optional (default = `10`)
        Epochs without improvement that are allowed before the learning rate is lowered.
    verbose : `bool`, optional (default = `False`)
        Deprecated and without effect; kept so that existing configurations can be read.
    threshold_mode : `str`, optional (default = `"rel"`)
        `"rel"` when `threshold` is a fraction of the best value, `"abs"` when it is a difference.
    threshold : `float`, optional (default = `1e-4`)
        The smallest change that counts as an improvement.
    cooldown : `int`, optional (default = `0`)
        Epochs to wait after a reduction before counting again.
    min_lr : `Union[float, List[float]]`, optional (default = `0`)
        The lowest learning rate, for all parameter groups or for each.
    eps : `float`, optional (default = `1e-8`)
        A reduction smaller than this is not made.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        threshold_mode: str = "rel",
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: Union[float, List[float]] = 0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in ("min", "max"):
            raise not_one_of("mode", mode, ("min", "max"))
        if threshold_mode not in ("rel", "abs"):
            raise not_one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        if verbose:
            warnings.warn('"verbose" of "reduce_on_plateau" has no effect', DeprecationWarning)
        super().__init__(
            torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer=optimizer,
                mode=mode,  # type: ignore[arg-type]
                factor=factor,
                patience=patience,
                threshold_mode=threshold_mode,  # type: ignore[arg-type]
                threshold=threshold,
                cooldown=cooldown,
                min_lr=min_lr,
                eps=eps,
            )
        )
