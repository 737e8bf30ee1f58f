"""
Dataclasses, named tuples and typed dicts in annotations. A config gives their fields in an object,
like the arguments of a part.
"""

import dataclasses
import inspect
import typing
from typing import Any, Dict


def is_record(cls: Any) -> bool:
    """Return whether a class is built from its fields only."""
    if not inspect.isclass(cls) or hasattr(cls, "from_params"):
        return False
    return dataclasses.is_dataclass(cls) or typing.is_typeddict(cls) or _is_named_tuple(cls)


def fields_of(cls: type) -> Dict[str, inspect.Parameter]:
    """Return the fields of a record as parameters, with resolved annotations."""
    try:
        types = typing.get_type_hints(cls)
    except Exception:  # evaluating a user's string may raise anything
        types = dict(cls.__annotations__)
    if typing.is_typeddict(cls):
        optional: typing.FrozenSet[str] = vars(cls)["__optional_keys__"]
        return {
            name: inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=_without_required(kind),
                default=None if name in optional else inspect.Parameter.empty,
            )
            for name, kind in types.items()
        }
    made = {
        each.name: each.default_factory()
        for each in (dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ())
        if each.default_factory is not dataclasses.MISSING
    }
    return {
        name: each.replace(
            annotation=types.get(name, each.annotation), default=made.get(name, each.default)
        )
        for name, each in inspect.signature(cls).parameters.items()
    }


def named_values(cls: type, value: Any) -> Any:
    """Return a list for a named tuple as values by field; else the value itself."""
    if isinstance(value, list) and _is_named_tuple(cls):
        fields = list(fields_of(cls))
        if len(value) <= len(fields):
            return dict(zip(fields, value))
    return value


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and "_fields" in dir(cls)


def _without_required(annotation: Any) -> Any:
    """Return `X` for `Required[X]` and `NotRequired[X]`."""
    name = getattr(typing.get_origin(annotation), "_name", None)
    return typing.get_args(annotation)[0] if name in ("Required", "NotRequired") else annotation
