from typing import List, TypeVar, Union

from allennlp.common.checks import ConfigurationError

Value = TypeVar("Value")


def one_per_layer(
    key: str, value: Union[Value, List[Value]], counted: str, count: int
) -> List[Value]:
    """
    Return the values under a config `key` for `count` layers: a list, or one value for all.
    `counted` names the number of layers. Raises `ConfigurationError` for a list of another length.
    """
    values: List[Value] = list(value) if isinstance(value, (list, tuple)) else [value] * count
    if len(values) != count:
        raise ConfigurationError(
            f"{key} has {len(values)} values, but {counted} is {count}; expected a single value or "
            "one for each layer"
        )
    return values
