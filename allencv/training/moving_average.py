from typing import Any, Dict, Iterable, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.moving_average import MovingAverage, NamedParameter


@MovingAverage.register("exponential", exist_ok=True)
class ExponentialMovingAverage(MovingAverage):
    """
    Keeps an exponential moving average (EMA) of the parameters, which validation uses in their
    place: `average = decay * average + (1 - decay) * parameter` after every step.

    Stands in for AllenNLP's class, whose state holds the parameters themselves
    (`training/moving_average.py`). After `--recover` it averages the loaded copies, which nobody
    trains, and gives its averages to them: the model is validated and saved without. Here the state
    holds the averages alone; one that AllenNLP's class has saved can be loaded too. All parameters
    are averaged in one fused call.

    Registered as a `MovingAverage` with name "exponential".

    # Parameters

    parameters : `Iterable[NamedParameter]`
        The parameters to average. This argument does not get an entry in a configuration file.
    decay : `float`, optional (default = `0.9999`)
        The share of the old average that a step keeps.
    numerator : `float`, optional (default = `1.0`)
    denominator : `float`, optional (default = `10.0`)
        When the number of updates is passed to `apply`, as the trainer does, `decay` is at most
        `(numerator + updates) / (denominator + updates)`: early averages forget faster.
    """

    def __init__(
        self,
        parameters: Iterable[NamedParameter],
        decay: float = 0.9999,
        numerator: float = 1.0,
        denominator: float = 10.0,
    ) -> None:
        super().__init__(parameters)
        self._decay = decay
        self._numerator = numerator
        self._denominator = denominator

    def apply(self, num_updates: Optional[int] = None) -> None:
        """
        Moves the averages towards the current values of the parameters.
        """
        decay = self._decay
        if num_updates is not None:
            warm_up = (self._numerator + num_updates) / (self._denominator + num_updates)
            decay = min(decay, warm_up)
        shadows = [self._shadows[name] for name, _ in self._parameters]
        with torch.no_grad():
            torch._foreach_lerp_(
                shadows, [parameter for _, parameter in self._parameters], 1 - decay
            )

    def state_dict(self) -> Dict[str, Any]:
        return {"shadows": self._shadows}

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        loaded = state_dict["shadows"]
        if loaded.keys() != self._shadows.keys():
            raise ConfigurationError(
                "the saved moving average lacks "
                f"{sorted(self._shadows.keys() - loaded.keys())} and has besides "
                f"{sorted(loaded.keys() - self._shadows.keys())}; expected the trainable "
                'parameters of this model (keys "model" and "trainer.no_grad")'
            )
        for name, shadow in self._shadows.items():
            shadow.copy_(loaded[name])
