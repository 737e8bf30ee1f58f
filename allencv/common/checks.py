from difflib import get_close_matches
from typing import Any, Callable, Iterable, Optional

from allennlp.common import FromParams, Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.from_params import infer_constructor_params


def not_one_of(key: str, value: Any, choices: Iterable[str]) -> ConfigurationError:
    """The error for a `value` under a config `key` that is none of `choices`, nearest first."""
    names = sorted(choices)
    nearest = get_close_matches(str(value), names, n=3)
    ordered = nearest + [name for name in names if name not in nearest]
    return ConfigurationError(f"{key} is {value!r}; expected one of {', '.join(ordered)}")


class CheckedFromParams(FromParams):
    """
    Refuses a config's unknown keys with the known ones, nearest first. For the bases of parts whose
    constructors hand `**kwargs` on, where AllenNLP would end in a TypeError about `__init__`.
    """

    @classmethod
    def from_params(
        cls,
        params: Params,
        constructor_to_call: Optional[Callable] = None,
        constructor_to_inspect: Optional[Callable] = None,
        **extras: Any,
    ) -> Any:
        if constructor_to_inspect is not None:
            known = set(infer_constructor_params(cls, constructor_to_inspect)) - {"self", "kwargs"}
            for key in params.params:
                if key not in known:
                    raise not_one_of(f"a key of {params.history or cls.__name__}", key, known)
        return super().from_params(
            params,
            constructor_to_call=constructor_to_call,
            constructor_to_inspect=constructor_to_inspect,
            **extras,
        )
