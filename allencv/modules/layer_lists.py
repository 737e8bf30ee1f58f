from typing import Any, List

from allennlp.common.checks import ConfigurationError


def one_per_layer(key: str, value: Any, counted: str, count: int) -> List[Any]:
    """
    Return the values under a config `key` for `count` layers: a list, or one value for all.
    `counted` names the number of layers. Raises `ConfigurationError` for a list of another length.
    """
    values = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ConfigurationError(
            f"{key} has {len(values)} values, but {counted} is {count}; expected a single value or "
            "one for each layer"
        )
    return values
