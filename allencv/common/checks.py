from difflib import get_close_matches
from typing import Any, Callable, Iterable, Optional

from allennlp.common import FromParams, Params, Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.common.from_params import infer_constructor_params


def not_one_of(key: str, value: Any, choices: Iterable[str]) -> ConfigurationError:
    """The error for a `value` under a config `key` that is none of `choices`, nearest first."""
    names = sorted(choices)
    nearest = get_close_matches(str(value), names, n=3)
    ordered = nearest + [name for name in names if name not in nearest]
    expected = f"one of {', '.join(ordered)}" if names else "nothing"
    return ConfigurationError(f"{key} is {value!r}; expected {expected}")


class CheckedFromParams(FromParams):
    """
    A base of parts whose mistakes in a config are answered with what could have been meant: an
    unknown "type" with the registered names, an unknown key with the known ones, nearest first.
    AllenNLP alone would end in a TypeError about `__init__` where a constructor takes `**kwargs`.
    """

    @classmethod
    def from_params(
        cls,
        params: Params,
        constructor_to_call: Optional[Callable] = None,
        constructor_to_inspect: Optional[Callable] = None,
        **extras: Any,
    ) -> Any:
        if isinstance(params, Params):
            place = f"{params.history.rstrip('.')}." if params.history else ""
            if constructor_to_inspect is None:
                registered = Registrable._registry.get(cls, {})
                name = params.get("type", cls.default_implementation)
                if registered and name not in registered and "." not in str(name):
                    raise not_one_of(f"{place}type", name, registered)
            else:
                known = infer_constructor_params(cls, constructor_to_inspect)
                for key in params.params:
                    if key not in known or key in ("self", "kwargs"):
                        raise not_one_of(f"a key of {place or cls.__name__}", key, known)
        return super().from_params(
            params,
            constructor_to_call=constructor_to_call,
            constructor_to_inspect=constructor_to_inspect,
            **extras,
        )
