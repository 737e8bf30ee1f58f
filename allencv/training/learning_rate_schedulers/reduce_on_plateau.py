import math
import warnings
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers.learning_rate_scheduler import (
    LearningRateScheduler,
    _PyTorchLearningRateSchedulerWithMetricsWrapper,
)
from allennlp.training.optimizers import Optimizer

from allencv.common.nearest_names import not_one_of

PROGRESS = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")
"""The state of PyTorch's scheduler that changes in training."""


@LearningRateScheduler.register("reduce_on_plateau", exist_ok=True)
class ReduceOnPlateauLearningRateScheduler(_PyTorchLearningRateSchedulerWithMetricsWrapper):
    """
    Lowers the learning rate when the trainer's `validation_metric` has stopped improving, with
    [PyTorch's `ReduceLROnPlateau`](https://pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html).

    The sign of `validation_metric` says which direction is better: with "-loss" the rate falls when
    the loss has stopped falling, with "+accuracy" when the accuracy has stopped rising.

    Replaces AllenNLP's class (`training/learning_rate_schedulers/pytorch_lr_schedulers.py`), which
    cannot be built, because PyTorch no longer takes its argument `verbose`. Also, trainers pass
    schedulers a score that rises when the model gets better, such as minus the loss. AllenNLP's
    class, with its default mode "min", treats the score as a loss, and lowers the rate while the
    loss falls.

    Registered as a `LearningRateScheduler` with name "reduce_on_plateau".

    # Parameters

    optimizer : `Optimizer`
        This argument does not get an entry in a configuration file.
    mode : `str`, optional (default = `None`)
        Not needed: the sign of `validation_metric` decides. `"min"` must agree with the sign: a
        lower metric is better. `"max"` agrees with either sign, because a higher score is better.
    factor : `float`, optional (default = `0.1`)
        The learning rate is multiplied by this; below 1.
    patience : `int`, optional (default = `10`)
        Epochs without improvement before the learning rate is lowered.
    verbose : `bool`, optional (default = `False`)
        Deprecated and without effect; kept so that existing configurations can be read.
    threshold_mode : `str`, optional (default = `"rel"`)
        `"rel"` if `threshold` is a fraction of the best value, whatever its sign, `"abs"` if it is
        a difference.
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
        mode: Optional[str] = None,
        factor: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        threshold_mode: str = "rel",
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: Union[float, List[float]] = 0,
        eps: float = 1e-8,
    ) -> None:
        if mode not in (None, "min", "max"):
            raise not_one_of("mode", mode, ("min", "max"))
        if threshold_mode not in ("rel", "abs"):
            raise not_one_of("threshold_mode", threshold_mode, ("rel", "abs"))
        for key, value, is_right, expected in (
            ("factor", factor, 0 < factor < 1, "a number between 0 and 1"),
            ("patience", patience, patience >= 0, "0 or more"),
            ("threshold", threshold, threshold >= 0, "0 or more"),
            ("cooldown", cooldown, cooldown >= 0, "0 or more"),
            (
                "min_lr",
                min_lr,
                min(min_lr, default=0) >= 0 if isinstance(min_lr, (list, tuple)) else min_lr >= 0,
                "0 or more",
            ),
            ("eps", eps, eps >= 0, "0 or more"),
        ):
            if not is_right:
                raise ConfigurationError(
                    f"learning_rate_scheduler.{key} is {value}; expected {expected}"
                )
        if verbose:
            warnings.warn('"verbose" of "reduce_on_plateau" has no effect', DeprecationWarning)
        self.mode = mode
        self._threshold = threshold
        self._is_relative = threshold_mode == "rel"
        super().__init__(
            torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer=optimizer,
                mode="max",
                factor=factor,
                patience=patience,
                threshold_mode="abs",
                threshold=threshold,
                cooldown=cooldown,
                min_lr=min_lr,
                eps=eps,
            )
        )

    def check(self, tracked: List[Tuple[float, str]], has_validation: bool) -> None:
        """
        Check the sign and name of each metric of the trainer, which calls this when it is built.

        # Raises

        `ConfigurationError` without validation data, or if `mode` is "min" and higher is better for
        all metrics.
        """
        if not has_validation:
            raise ConfigurationError(
                "trainer.learning_rate_scheduler is 'reduce_on_plateau', which follows a "
                "validation metric; expected validation_data_path, or another scheduler"
            )
        if self.mode == "min" and all(sign > 0 for sign, _ in tracked):
            names = ", ".join(f"+{name}" for _, name in tracked)
            raise ConfigurationError(
                "trainer.learning_rate_scheduler.mode is 'min', but higher is better for "
                f"trainer.validation_metric, {names}; expected no mode, as the sign decides"
            )

    def step(self, metric: Optional[float] = None) -> None:
        """Update the rate after an epoch with its score. A higher score is better."""
        best = self.lr_scheduler.best
        if self._is_relative and math.isfinite(best):
            # PyTorch multiplies the best value, which makes a negative one better, not worse.
            self.lr_scheduler.threshold = self._threshold * abs(best)
        super().step(metric)

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        # The config defines a plateau and its effect, the checkpoint the progress of training.
        super().load_state_dict({name: state_dict[name] for name in PROGRESS})
