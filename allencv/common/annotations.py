"""
Read the arguments of a part's constructor. The builder of parts and the catalogue both use this
module, so that they agree.
"""

import ast
import contextlib
import inspect
import textwrap
import types
import typing
from functools import cache
from typing import (
    Annotated,
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Union,
    get_args,
)

from allennlp.common import FromParams
from allennlp.common.from_params import can_construct_from_params, infer_constructor_params
from allennlp.common.lazy import Lazy

from allencv.common.records import fields_of, is_record

UNIONS = (Union, types.UnionType)
LIBRARIES = ("allencv", "allennlp", "timm", "torch", "torchmetrics", "torchvision")
"""Packages whose classes do not change in a process. A notebook may edit others in place."""
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(cls: type, constructor: Callable) -> Dict[str, inspect.Parameter]:
    """
    Return the parameters of a constructor by name, without `self`, `*args` and `**kwargs`. Follow
    `**kwargs` to the parameters of base classes. Annotations that are strings
    (`from __future__ import annotations` makes all of them strings) are resolved if possible. The
    parameters of a dataclass or another record are its fields.
    """
    if is_record(cls):
        return fields_of(cls)
    return {
        name: parameter.replace(
            annotation=_looked_up(parameter.annotation, owner_of(name, cls, constructor))
        )
        for name, parameter in parameters_as_written(cls, constructor).items()
    }


def parameters_as_written(cls: type, constructor: Callable) -> Mapping[str, inspect.Parameter]:
    """Return the same as `parameters_of`, with the annotations that AllenNLP reads."""
    if is_record(cls):
        return fields_of(cls)
    read = _signature if _is_of_library(cls) else _signature.__wrapped__
    return read(cls, constructor)


@cache
def _signature(cls: type, constructor: Callable) -> Mapping[str, inspect.Parameter]:
    if constructor is object.__init__:
        return {}
    if issubclass(cls, FromParams):
        parameters = infer_constructor_params(cls, constructor)
    else:  # a class of torch that AllenNLP registers unchanged
        parameters = dict(inspect.signature(constructor).parameters)
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name not in ("self", "cls") and parameter.kind not in _VARIABLE
    }


def _is_of_library(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in LIBRARIES


def owner_of(name: str, cls: type, constructor: Callable) -> Callable:
    """Return the constructor that has a parameter: of a class, or of a base class."""
    read = _owner if _is_of_library(cls) else _owner.__wrapped__
    return read(name, cls, constructor)


@cache
def _owner(name: str, cls: type, constructor: Callable) -> Callable:
    for function in _constructors(cls, constructor):
        with contextlib.suppress(ValueError):  # one in C has no signature
            if name in inspect.signature(function).parameters:
                return function
    return constructor


def takes_other_keys(cls: type, constructor: Callable) -> bool:
    """
    Return whether a constructor takes keys that are not among its parameters. Follow `**kwargs`
    to the base class, if the constructor only passes them to `super().__init__` or is AllenNLP's.
    """
    if constructor is object.__init__ or is_record(cls):
        return False
    for function in _constructors(cls, constructor):
        if function is object.__init__:
            return True
        kwargs = _kwargs_name(function)
        if kwargs is None:
            return False
        if not _hands_on(function, kwargs):
            return True
    return False


def unwrapped(annotation: Any) -> Any:
    """Return `X` for `Annotated[X, ...]`, for a `NewType` of `X` and for a `type` alias of it."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type X = ...`, since Python 3.12
            annotation = annotation.__value__
        else:
            return annotation


def is_unresolved(annotation: Any) -> bool:
    """Return whether an annotation has a name that could not be resolved."""
    if isinstance(annotation, (str, typing.ForwardRef)):
        return True
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return any(map(is_unresolved, get_args(annotation)))


def holds_lazy(annotation: Any) -> bool:
    """Return whether the constructor builds a part of an argument, with `construct`."""
    return typing.get_origin(annotation) is Lazy or any(map(holds_lazy, get_args(annotation)))


def allennlp_builds(annotation: Any) -> bool:
    """
    Return whether AllenNLP itself builds the parts of an argument with this annotation, as written
    in the code. In place of a part that it does not build, it passes a dict.
    """
    origin, members = typing.get_origin(annotation), get_args(annotation)
    if origin is Union:
        return all(allennlp_builds(each) for each in members if each is not type(None))
    if (
        origin is Lazy
        or annotation in (str, int, float, bool)
        or hasattr(annotation, "from_params")
        or typing.is_typeddict(annotation)
    ):
        return True
    if origin in (dict, typing.get_origin(typing.Mapping)):
        members = members[-1:]
    elif origin not in (list, set, tuple, typing.get_origin(typing.Iterable)):
        return False
    return all(can_construct_from_params(each) and allennlp_builds(each) for each in members)


def _constructors(cls: type, constructor: Callable) -> Iterator[Callable]:
    """Yield a constructor, and those that its `**kwargs` may go to, in the order of classes."""
    yield constructor
    for base in cls.__mro__:
        function = vars(base).get("__init__")
        if function is not None and function is not constructor:
            yield function


def _looked_up(annotation: Any, owner: Callable) -> Any:
    if annotation is inspect.Parameter.empty:
        return annotation
    function = inspect.unwrap(getattr(owner, "__func__", owner))
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, getattr(function, "__globals__", {}))["it"]
    except Exception:  # evaluating a user's string may raise anything
        return annotation


def _kwargs_name(function: Callable) -> Optional[str]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return parameter.name
    return None


def _hands_on(function: Callable, kwargs: str) -> bool:
    """Return whether a constructor uses its `**kwargs` only for `super().__init__`."""
    if function.__module__.startswith("allennlp."):
        return True
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no source: from a prompt, or written in C
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    handed: List[ast.expr] = []
    for call in calls:
        if ast.unparse(call.func).endswith(("cls", ".__init__")):
            handed += [each.value for each in call.keywords if each.arg is None]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == kwargs]
    return bool(uses) and all(any(use is each for each in handed) for use in uses)
