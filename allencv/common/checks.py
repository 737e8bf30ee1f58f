import inspect
import os
import re
from functools import partial
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

from allennlp.common import FromParams, Params, Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.common.from_params import pop_and_construct_arg, remove_optional

from allencv.common.annotations import parameters_of, takes_other_keys
from allencv.common.arguments import build_argument
from allencv.common.arguments import not_one_of as not_one_of


def missing_method(cls: type, method: str) -> ConfigurationError:
    """Return the error for a class that lacks an abstract method of its base."""
    try:
        file, line = inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)[1]
        place = f" ({os.path.relpath(file)}:{line})"
    except (OSError, TypeError, ValueError):  # no source: from a prompt
        place = ""
    base = next(each for each in cls.__mro__ if method in vars(each))
    return ConfigurationError(
        f"class {cls.__name__}{place} lacks the method {method}; expected one, as every "
        f"{base.__name__} has it"
    )


def missing_methods(cls: type) -> Iterator[ConfigurationError]:
    """Yield an error for each abstract method that a class does not define."""
    members: Dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        members.update(vars(base))
    for name in sorted(members):
        if getattr(members[name], "__isabstractmethod__", False):
            yield missing_method(cls, name)


def positional_only(cls: type, constructor: Callable) -> Iterator[ConfigurationError]:
    """Yield an error for each parameter of a constructor that a config cannot name."""
    for name, parameter in parameters_of(cls, constructor).items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            yield ConfigurationError(
                f"the constructor of {cls.__name__} takes {name} by position only; expected no '/' "
                "after it, as a config gives arguments by name"
            )


class CheckedFromParams(FromParams):
    """
    Base class of parts that are built by the annotations of their constructors, including
    `Part | None` and `Sequence[Part]`, which AllenNLP leaves as dicts. A mistake in a config raises
    an error with suggestions: the registered names for an unknown "type", the known keys for an
    unknown key, nearest first.
    """

    @classmethod
    def from_params(
        cls,
        params: Params,
        constructor_to_call: Optional[Callable] = None,
        constructor_to_inspect: Optional[Callable] = None,
        **extras: Any,
    ) -> Any:
        if not isinstance(params, Params):
            return super().from_params(
                params, constructor_to_call, constructor_to_inspect, **extras
            )
        place = f"{params.history.rstrip('.')}." if params.history else ""
        registered = Registrable._registry.get(cls)
        if registered is not None and constructor_to_call is None:
            name = params.get("type", getattr(cls, "default_implementation", None))
            if registered and name not in registered and "." not in str(name):
                raise not_one_of(f"{place}type", name, registered)
            return super().from_params(params, **extras)
        for error in missing_methods(cls):
            raise error
        constructor: Callable = constructor_to_inspect or cls.__init__
        for error in positional_only(cls, constructor):
            raise error
        given = _given_arguments(cls, constructor, params, place, extras)
        return super().from_params(
            params,
            constructor_to_call=partial(_call, cls, constructor_to_call or cls, place, given),
            constructor_to_inspect=_without(constructor, cls, given),
            **extras,
        )


def _given_arguments(
    cls: type, constructor: Callable, params: Params, place: str, extras: Dict[str, Any]
) -> Dict[str, Any]:
    """Take the values out of a config, and build the arguments from them."""
    parameters = parameters_of(cls, constructor)
    others = [key for key in params.params if key not in parameters]
    if others and not takes_other_keys(cls, constructor):
        known = [name for name in parameters if name not in extras]
        whole = place.rstrip(".") or cls.__name__
        raise not_one_of(f"a key of {whole}", others[0], known, in_order=True)
    given: Dict[str, Any] = {key: params.pop(key, keep_as_dict=True) for key in others}
    for name, parameter in parameters.items():  # a fixed order, as they draw random numbers
        value = params.params.get(name)
        if isinstance(value, dict) and "_pretrained" in value:
            kind = remove_optional(parameter.annotation)
            given[name] = pop_and_construct_arg(cls.__name__, name, kind, None, params)
        elif name in params.params:
            value = params.pop(name)
            if value is not None:
                value = build_argument(f"{place}{name}", parameter.annotation, value, extras)
            given[name] = value
    return given


def _without(constructor: Callable, cls: type, given: Iterable[str]) -> Callable:
    """Return a constructor for AllenNLP to inspect, without the arguments already built."""

    def rest() -> None: ...

    parameters = [
        each for name, each in parameters_of(cls, constructor).items() if name not in given
    ]
    rest.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    )
    return rest


def _call(cls: type, call: Callable, place: str, given: Dict[str, Any], /, **rest: Any) -> Any:
    try:
        return call(**given, **rest)
    except TypeError as error:
        unexpected = re.search("unexpected keyword argument '(.*)'", str(error))
        if unexpected is None or unexpected[1] not in given:
            raise
        raise ConfigurationError(
            f"{place}{unexpected[1]} is not a key that {cls.__name__} can use: {error}"
        ) from error
