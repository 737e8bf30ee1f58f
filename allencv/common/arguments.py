"""Build the arguments of a part from a config, by their annotations."""

import collections.abc
import enum
import inspect
import pathlib
from copy import deepcopy
from typing import Any, Callable, Dict, Iterable, List, Literal, get_args, get_origin

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.from_params import construct_arg

from allencv.common.annotations import UNIONS, is_unresolved, unwrapped
from allencv.common.nearest_names import not_one_of
from allencv.common.records import fields_of, is_record, named_values

LISTS: Dict[Any, Callable] = {
    **dict.fromkeys((list, collections.abc.Iterable, collections.abc.Sequence), list),
    **dict.fromkeys((collections.abc.Collection, collections.abc.MutableSequence), list),
    **dict.fromkeys((set, collections.abc.Set, collections.abc.MutableSet), set),
    **{frozenset: frozenset, collections.deque: collections.deque, tuple: tuple},
}
"""The types that are lists in a config, and the functions that make them from a list."""
DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def build_argument(key: str, annotation: Any, value: Any, extras: Dict[str, Any]) -> Any:
    """
    Build an argument from a config's `value` under a `key`. AllenNLP's `construct_arg` builds
    registered classes, `Lazy` ones, and those without a form in a config. It gets the `extras`.

    # Raises

    `ConfigurationError` if the value does not fit the annotation.
    """
    annotation = unwrapped(annotation)
    origin, members = get_origin(annotation) or annotation, get_args(annotation)
    if is_unresolved(annotation) and holds_dict(value):
        raise ConfigurationError(unresolved(key, annotation))
    if origin in UNIONS:
        return _build_union(key, annotation, value, extras)
    if origin is Literal:
        if not is_one_of(value, members):
            raise misfit(key, value, annotation)
        return value
    if origin in DICTS:
        if not isinstance(value, collections.abc.Mapping):
            raise misfit(key, value, annotation)
        kinds = members or (Any, Any)
        return {
            _build_key(f"{key}.{name}", kinds[0], name): build_argument(
                f"{key}.{name}", kinds[1], each, extras
            )
            for name, each in value.items()
        }
    if origin in LISTS:
        return _build_list(key, annotation, value, extras)
    if annotation in (str, int, float, bool):
        return _build_plain(key, annotation, value)
    if inspect.isclass(annotation) and issubclass(annotation, pathlib.PurePath):
        return annotation(_build_plain(key, str, value))
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return _build_enum(key, annotation, value)
    if is_record(origin):
        return _build_record(key, origin, named_values(origin, value), extras)
    if is_not_built(annotation, value):
        raise ConfigurationError(not_built(key, annotation))
    if origin is None or not (hasattr(annotation, "from_params") or get_origin(annotation)):
        return _as_plain(value)
    return construct_arg(str(annotation), key, value, annotation, inspect.Parameter.empty, **extras)


def misfit(key: str, value: Any, annotation: Any) -> ConfigurationError:
    """Return the error for a value that does not match its annotation."""
    return ConfigurationError(f"{key} is {_as_plain(value)!r}; expected {_in_words(annotation)}")


def is_not_built(annotation: Any, value: Any) -> bool:
    """
    Return whether a config's value cannot be built for an annotation: any value for a function or a
    class, and an object for a class that is neither a part nor a record.
    """
    annotation = unwrapped(annotation)
    if value is None:
        return False
    if (get_origin(annotation) or annotation) in (collections.abc.Callable, type):
        return True
    if not inspect.isclass(annotation) or hasattr(annotation, "from_params"):
        return False
    if annotation in (*dict.__mro__, Any, Params, inspect.Parameter.empty):
        return False
    return isinstance(value, (dict, Params)) and not issubclass(annotation, collections.abc.Mapping)


def not_built(key: str, annotation: Any) -> str:
    """Return the message for a value that `is_not_built`."""
    return (
        f"{key} is not built: a config has no form for its annotation "
        f"'{_in_words(annotation)}'; expected the annotation of a registered class, of a dataclass "
        "or of a plain value"
    )


def unresolved(key: str, annotation: Any) -> str:
    """Return the message for a part whose annotation cannot be resolved."""
    name = getattr(annotation, "__forward_arg__", annotation)
    return (
        f"{key} has the annotation {name!r}, which cannot be found in the file of its constructor, "
        "so that the part cannot be built; expected a name that the file imports, and not under "
        "'if TYPE_CHECKING'"
    )


def _build_union(key: str, annotation: Any, value: Any, extras: Dict[str, Any]) -> Any:
    """Use the first member that takes the value, as in AllenNLP, but keep the type of numbers."""
    members = get_args(annotation)
    if value is None and type(None) in members:
        return None
    if isinstance(value, (bool, int, float)) and type(value) in members:
        return value
    errors: List[Exception] = []
    likely: List[Exception] = []
    for member in members:
        if member is type(None):
            continue
        try:
            return build_argument(key, member, deepcopy(value), extras)
        except (ValueError, TypeError, ConfigurationError, AttributeError) as error:
            errors.append(error)
            if _is_likely(member, value):
                likely.append(error)
    if len(likely) == 1:
        raise likely[0]
    raise misfit(key, value, annotation) from errors[-1]


def _is_likely(annotation: Any, value: Any) -> bool:
    """Return whether a value is probably meant for this member of a union."""
    annotation = unwrapped(annotation)
    origin = get_origin(annotation) or annotation
    if is_not_built(annotation, value):
        return True
    if isinstance(value, list):
        return origin in LISTS
    is_part = (
        hasattr(annotation, "from_params")
        or get_origin(annotation) is not None
        or is_record(annotation)
    )
    return isinstance(value, Params) and (
        (origin in DICTS and "type" not in value) or (is_part and origin not in (*DICTS, *LISTS))
    )


def _build_record(key: str, cls: type, value: Any, extras: Dict[str, Any]) -> Any:
    """Build a dataclass, a named tuple or a typed dict from its fields."""
    if not isinstance(value, collections.abc.Mapping):
        raise misfit(key, value, cls)
    fields = fields_of(cls)
    for name in value:
        if name not in fields:
            raise not_one_of(f"a key of {key}", name, fields, in_order=True)
    for name, field in fields.items():
        if field.default is inspect.Parameter.empty and name not in value:
            raise ConfigurationError(f"{key} lacks {name}; expected {_in_words(field.annotation)}")
    return cls(
        **{
            name: None
            if each is None and fields[name].default is None
            else build_argument(f"{key}.{name}", fields[name].annotation, each, extras)
            for name, each in value.items()
        }
    )


def _build_list(key: str, annotation: Any, value: Any, extras: Dict[str, Any]) -> Any:
    origin, members = get_origin(annotation) or annotation, get_args(annotation)
    if not isinstance(value, (list, tuple, set)):
        raise misfit(key, value, annotation)
    is_tuple = origin is tuple and members and Ellipsis not in members
    if is_tuple and len(value) != len(members):
        raise misfit(key, value, annotation)
    kinds = members if is_tuple else [members[0] if members else Any] * len(value)
    built = [
        build_argument(f"{key}.{index}", kind, each, extras)
        for index, (kind, each) in enumerate(zip(kinds, value))
    ]
    return LISTS[origin](built)


def _build_key(key: str, annotation: Any, name: str) -> Any:
    """Build the key of a dict from the string in a config."""
    if unwrapped(annotation) is int and name.removeprefix("-").isdecimal():
        return int(name)
    return name if annotation in (Any, str) else build_argument(key, annotation, name, {})


def _build_plain(key: str, kind: type, value: Any) -> Any:
    is_path = kind is str and isinstance(value, pathlib.PurePath)
    if not is_path and not is_plain(value, kind):
        raise misfit(key, value, kind)
    return value if kind is float else kind(value)


def is_plain(value: Any, kind: type) -> bool:
    """
    Return whether a value is a `str`, `int`, `float`, `bool` or `None`. As in AllenNLP, 1 is true,
    and a float may be written without a point.
    """
    if kind in (int, bool):
        return type(value) in (int, bool)
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, kind)


def is_one_of(value: Any, choices: Iterable[Any]) -> bool:
    """Return whether a value is one of the choices. `true` is not 1."""
    return any(type(value) is type(each) and value == each for each in choices)


def _build_enum(key: str, kind: "type[enum.Enum]", value: Any) -> enum.Enum:
    """Return a member by its value, or else by its name."""
    if isinstance(value, kind):
        return value
    for member in kind:
        if type(member.value) is type(value) and member.value == value:
            return member
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    raise misfit(key, value, Literal[tuple(enum_choices(kind))])


def enum_choices(kind: "type[enum.Enum]") -> List[Any]:
    """Return the values of an enum's members in a config: their values, or else their names."""
    return [
        member.value if isinstance(member.value, (str, int, float)) else member.name
        for member in kind
    ]


def holds_dict(value: Any) -> bool:
    """Return whether a value contains an object of a config."""
    if isinstance(value, list):
        return any(map(holds_dict, value))
    return isinstance(value, (dict, Params))


def _in_words(annotation: Any) -> str:
    return inspect.formatannotation(annotation).replace("typing.", "")


def _as_plain(value: Any) -> Any:
    """Replace AllenNLP's `Params` by dicts."""
    if isinstance(value, Params):
        return value.as_dict(quiet=True)
    return [_as_plain(each) for each in value] if isinstance(value, list) else value
