from typing import Any, List

from allennlp.common.checks import ConfigurationError


def one_per_layer(key: str, value: Any, counted: str, count: int) -> List[Any]:
    """
    The values under a config `key` for `count` layers: a list of them, or a single value for all.
    `counted` is what says how many layers there are. Raises `ConfigurationError` for a list of
    another length.
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ConfigurationError(
            f"{key} has {len(values)} values, but {counted} is {count}; expected a single value or "
            "one for each layer"
        )
    return values
