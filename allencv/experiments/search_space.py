"""The values that `allencv tune` may try for keys of a config."""

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Union

from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Values = Dict[str, Any]
"""A value for each key."""
RANGES = ("uniform", "log_uniform", "integer")
EXPECTED = (
    "expected a list of values, or one of "
    '{"uniform": [low, high]}, {"log_uniform": [low, high]} and {"integer": [low, high]}'
)


@dataclass(frozen=True)
class Choice:
    """One of a list of values, which may be of any kind, such as whole parts."""

    key: str
    values: Sequence[Any]

    @property
    def size(self) -> int:
        """The number of values."""
        return len(self.values)

    def distribution(self) -> "BaseDistribution":
        """Return the distribution of the parameter of Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(range(len(self.values)))

    def value_of(self, param: Any) -> Any:
        """Return the value for a parameter of Optuna, which is its place in the list."""
        return self.values[param]

    def param_of(self, value: Any) -> Optional[int]:
        """Return the parameter of Optuna for a value, or `None` if the value is not in the list."""
        texts = [_text(each) for each in self.values]
        return texts.index(_text(value)) if _text(value) in texts else None

    def examples(self) -> List[Any]:
        """Return values that together show whether the config accepts all."""
        return list(self.values)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included. `kind` is one of `RANGES`."""

    key: str
    kind: str
    low: float
    high: float

    @property
    def size(self) -> float:
        """The number of values, which may be infinite."""
        return self.high - self.low + 1 if self.kind == "integer" else math.inf

    def distribution(self) -> "BaseDistribution":
        """Return the distribution of the parameter of Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.kind == "integer":
            return IntDistribution(int(self.low), int(self.high))
        return FloatDistribution(self.low, self.high, log=self.kind == "log_uniform")

    def value_of(self, param: Any) -> Any:
        """Return the value for a parameter of Optuna, which is the value itself."""
        return param

    def param_of(self, value: Any) -> Optional[float]:
        """Return the parameter of Optuna for a value, or `None` if it is not in the range."""
        kinds = int if self.kind == "integer" else int | float
        if isinstance(value, bool) or not isinstance(value, kinds):
            return None
        return value if self.low <= value <= self.high else None

    def examples(self) -> List[Any]:
        """Return values that together show whether the config accepts all."""
        return [self.low, self.high]


Hyperparameter = Union[Choice, Range]


def search_space(space: Any) -> List[Hyperparameter]:
    """
    Read a space: an object with a list of values, or a range, for each key of the config. Keys come
    before the keys below them.

    # Raises

    `ConfigurationError` for anything else.
    """
    if not isinstance(space, dict) or not space:
        raise ConfigurationError(
            f"--space is {_text(space)}; expected an object with the keys to search, such as "
            '{"trainer.optimizer.lr": {"log_uniform": [1e-4, 1e-2]}}'
        )
    return [_read(key, space[key]) for key in sorted(space, key=lambda key: key.count("."))]


def _read(key: str, given: Any) -> Hyperparameter:
    wrong = f"--space: {key} is {_text(given)}"
    if isinstance(given, list):
        texts = [_text(value) for value in given]
        if len(set(texts)) < 2:
            raise ConfigurationError(
                f"{wrong}; expected two values or more. Set a single one with -o"
            )
        if double := next((text for text in texts if texts.count(text) > 1), None):
            raise ConfigurationError(f"{wrong}, with {double} twice; expected each value once")
        return Choice(key, given)
    if not isinstance(given, dict) or len(given) != 1:
        raise ConfigurationError(f"{wrong}; {EXPECTED}")
    ((kind, limits),) = given.items()
    if kind not in RANGES or not isinstance(limits, list) or len(limits) != 2:
        raise ConfigurationError(f"{wrong}; {EXPECTED}")
    for limit in limits:
        if isinstance(limit, bool) or not isinstance(limit, int | float):
            raise ConfigurationError(f"{wrong}, with the limit {_text(limit)}; expected numbers")
        if kind == "integer" and int(limit) != limit:
            raise ConfigurationError(f"{wrong}, with the limit {limit}; expected integers")
    low, high = limits
    if low >= high:
        raise ConfigurationError(f"{wrong}; expected the lower limit first, and another upper one")
    if kind == "log_uniform" and low <= 0:
        raise ConfigurationError(f"{wrong}; expected limits above 0, as it has a logarithmic scale")
    number = int if kind == "integer" else float
    return Range(key, kind, number(low), number(high))


def value_at(config: Any, key: str) -> Any:
    """Return the value at a dotted key of a config, or `None` if the config does not have it."""
    for part in key.split("."):
        if isinstance(config, dict):
            config = config.get(part)
        elif isinstance(config, list) and part.isdecimal() and int(part) < len(config):
            config = config[int(part)]
        else:
            return None
    return config


def with_values(config: Dict[str, Any], values: Values) -> Dict[str, Any]:
    """
    Return the config with values at dotted keys.

    # Raises

    `ConfigurationError` for a key that the config cannot have.
    """
    for key, value in values.items():
        try:
            config = with_overrides(config, {key: value})
        except (KeyError, TypeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigurationError(
                f"--space: {key} does not fit the config ({reason}); expected one of its keys, or "
                "a new key of one of its parts"
            ) from None
    return config


def as_text(value: Any) -> str:
    """Return a value for a table: numbers with four significant digits, and others as JSON."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
