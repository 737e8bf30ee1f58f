from typing import Any, Dict, Iterable, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.moving_average import MovingAverage, NamedParameter


@MovingAverage.register("exponential", exist_ok=True)
class ExponentialMovingAverage(MovingAverage):
    """
    Keeps an exponential moving average (EMA) of the parameters, which validation uses in their
    place: `average = decay * average + (1 - decay) * parameter` after every step.

    Replaces AllenNLP's class (`training/moving_average.py`), whose state holds the parameters
    themselves. After `--recover` it averages the loaded copies, which are not trained, so the model
    is validated and saved without averages. Here the state holds only the averages. A state saved
    by AllenNLP's class can be loaded too. All parameters are averaged in one fused call.

    Only the `parameters` that the trainer passes are averaged. AllenNLP's trainer passes the
    trainable parameters, so the model's buffers, such as the running statistics of batch norm, keep
    their current values, also in validation and in the saved model. The "image" trainer passes
    these statistics too.

    Registered as a `MovingAverage` with name "exponential".

    # Parameters

    parameters : `Iterable[NamedParameter]`
        The parameters to average. This argument does not get an entry in a configuration file.
    decay : `float`, optional (default = `0.9999`)
        The share of the old average that a step keeps, in [0, 1).
    numerator : `float`, optional (default = `1.0`)
    denominator : `float`, optional (default = `10.0`)
    power : `float`, optional (default = `1.0`)
        Warm-up: early averages forget faster. When the number of the step is passed to `apply`, as
        the trainer does, `decay` is at most
        `1 - ((denominator - numerator) / (denominator + updates)) ** power`,
        where `updates` are the steps since `start_step`. With a power of 1 that is
        `(numerator + updates) / (denominator + updates)`. The warm-up of timm's `ModelEmaV3` with
        `warmup_gamma` and `warmup_power` has these as `denominator` and `power`, a `numerator` of 0
        and a `start_step` of 1. With a numerator equal to the denominator there is no warm-up.
    start_step : `int`, optional (default = `0`)
        Before this step the averages are copies of the parameters. Training recipes often start to
        average after the warm-up of the learning rate.

    # Raises

    `ConfigurationError` for a value out of its range.
    """

    def __init__(
        self,
        parameters: Iterable[NamedParameter],
        decay: float = 0.9999,
        numerator: float = 1.0,
        denominator: float = 10.0,
        power: float = 1.0,
        start_step: int = 0,
    ) -> None:
        if not 0 <= decay < 1:
            raise ConfigurationError(
                f"moving_average.decay is {decay}; expected a number in [0, 1)"
            )
        if not 0 <= numerator <= denominator or denominator == 0:
            raise ConfigurationError(
                f"moving_average.numerator is {numerator}; expected at least 0 and at most the "
                f"denominator, {denominator}, which is more than 0"
            )
        if power <= 0:
            raise ConfigurationError(f"moving_average.power is {power}; expected more than 0")
        if start_step < 0:
            raise ConfigurationError(
                f"moving_average.start_step is {start_step}; expected at least 0"
            )
        super().__init__(parameters)
        self._decay = decay
        self._numerator = numerator
        self._denominator = denominator
        self._power = power
        self._start_step = start_step

    def apply(self, num_updates: Optional[int] = None) -> None:
        """
        Move the averages towards the current values of the parameters.
        """
        decay = self._decay if num_updates is None else self._decay_at(num_updates)
        shadows = [self._shadows[name] for name, _ in self._parameters]
        with torch.no_grad():
            torch._foreach_lerp_(
                shadows, [parameter for _, parameter in self._parameters], 1 - decay
            )

    def _decay_at(self, step: int) -> float:
        if step < self._start_step:
            return 0.0
        updates = step - self._start_step
        share_of_new = (self._denominator - self._numerator) / (self._denominator + updates)
        return min(self._decay, 1 - share_of_new**self._power)

    def state_dict(self) -> Dict[str, Any]:
        return {"shadows": self._shadows}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        loaded = state_dict["shadows"]
        if loaded.keys() != self._shadows.keys():
            raise ConfigurationError(
                "the saved moving average lacks "
                f"{sorted(self._shadows.keys() - loaded.keys())} and also has "
                f"{sorted(loaded.keys() - self._shadows.keys())}; expected the trainable "
                'parameters of this model (keys "model" and "trainer.no_grad")'
            )
        for name, shadow in self._shadows.items():
            shadow.copy_(loaded[name])
