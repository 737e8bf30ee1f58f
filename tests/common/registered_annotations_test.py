"""
AllenNLP builds a part from the annotations of its constructor, and misreads some forms in silence:
the part gets a raw dict, or a string that nobody has checked. Here every constructor of AllenCV
that a config can reach is read, and those forms are refused.
"""

import collections.abc
import copy
import dataclasses
import enum
import importlib
import importlib.util
import inspect
import pathlib
import pkgutil
import re
import types
from typing import (
    Annotated,
    Any,
    Callable,
    Deque,
    Dict,
    ForwardRef,
    FrozenSet,
    Iterable,
    List,
    Literal,
    Mapping,
    MutableMapping,
    NewType,
    Optional,
    Sequence,
    Set,
    Tuple,
    Type,
    Union,
    get_args,
    get_origin,
)

import pytest
import torch
from allennlp.common import Lazy, Params, Registrable

import allencv

# In a Union AllenNLP takes the first member that does not fail: a dict may be meant for a part, and
# a list takes strings and dicts too.
DICTS = (dict, collections.abc.Mapping)
LISTS = (list, set, tuple, collections.abc.Iterable)


def misread(annotation: Any, inside: Any = None) -> Optional[str]:
    """
    Why AllenNLP does not read `annotation` as it is meant, or `None`. Where it stands inside
    another form, `inside` is `list` or `dict`, whichever is the outermost.
    """
    origin, members = get_origin(annotation), get_args(annotation)
    if annotation is inspect.Parameter.empty:
        return "there is no annotation"
    if isinstance(annotation, (str, ForwardRef)):
        return "a string is not looked up (also from __future__ import annotations)"
    if isinstance(annotation, types.UnionType):
        return "X | Y is not understood; use Optional or Union"
    if origin in (Annotated, Literal):
        return f"{origin} is not checked"
    if origin is Union:
        return misread_union(members, inside)
    if origin is Lazy:
        ready = hasattr(members[0], "from_params")
        return None if ready else "Lazy holds something else than a registered class"
    if origin in DICTS and members:
        if members[0] is not str:
            return "the keys of a config are strings"
        return misread(members[1], inside or dict)
    if origin in LISTS and members:
        if Ellipsis in members:
            return "Tuple[X, ...] is not understood; use List"
        return next(filter(None, (misread(member, inside or list) for member in members)), None)
    if origin is not None:
        return f"{annotation} is not understood; use List, Dict, Optional or Union"
    return misread_class(annotation, inside)


def misread_union(members: Tuple[Any, ...], inside: Any) -> Optional[str]:
    if type(None) in members and inside is not None:
        return "an Optional inside another form is not understood"
    if {int, bool} <= set(members):
        return "a Union with int and bool turns one into the other"
    if {float, bool} <= set(members) and members.index(bool) < members.index(float):
        return "a Union with bool before float turns 3 into True"
    present = [member for member in members if member is not type(None)]
    origins = [get_origin(member) or member for member in present]
    order = [2 if origin in LISTS else int(origin in DICTS) for origin in origins]
    if order != sorted(order):
        return "in a Union a dict comes after the rest, and a list last"
    return next(filter(None, (misread(member, inside) for member in members)), None)


def misread_class(annotation: Any, inside: Any) -> Optional[str]:
    if annotation in (str, int, float, bool, type(None)) or hasattr(annotation, "from_params"):
        return None
    if annotation in (Any, dict):
        return "the dicts of a list arrive as Params" if inside is list else None
    if not isinstance(annotation, type):
        return f"{annotation} is not understood"
    if issubclass(annotation, (pathlib.PurePath, enum.Enum)):
        return "a string arrives; use str"
    own = annotation.__module__.startswith(("allencv", "builtins"))
    if own or dataclasses.is_dataclass(annotation):
        return "it has no from_params, so what the config says arrives as it is"
    return None  # such as a tensor or an optimizer: handed over in code, never by a config


def constructors_to_read(cls: type, name: Optional[str]) -> Iterable[Callable]:
    """
    The functions of AllenCV whose parameters a config of `cls` can set: its constructor, and as
    long as one takes `**kwargs`, that of the class above.
    """
    functions = [getattr(cls, name)] if name else []
    functions += [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    for function in functions:
        if getattr(function, "__module__", "").startswith("allencv"):
            yield function
        parameters = inspect.signature(function).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return


def complaints(cls: type, name: Optional[str] = None) -> List[str]:
    found = []
    for function in constructors_to_read(cls, name):
        for parameter in inspect.signature(function).parameters.values():
            variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            reason = None if variable else misread(parameter.annotation)
            if reason and parameter.name != "self":
                found.append(
                    f"{function.__module__}.{function.__qualname__}({parameter}): {reason}"
                )
    return found


def import_every_part() -> None:
    if importlib.util.find_spec("allencv.plugin"):
        importlib.import_module("allencv.plugin")
        return
    for module in pkgutil.walk_packages(allencv.__path__, "allencv."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_constructor_of_ours_can_be_read():
    import_every_part()
    ours = {
        (cls, constructor)
        for registry in Registrable._registry.values()
        for cls, constructor in registry.values()
        if cls.__module__.startswith("allencv")
    }
    assert ours
    assert sorted({text for part in ours for text in complaints(*part)}) == []


# The checker, on what AllenNLP makes of each form


class Base(Registrable):
    pass


@Base.register("part")
@dataclasses.dataclass(eq=True)
class Part(Base):
    size: int = 0

    def __hash__(self):
        return self.size


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Plain:
    size: int = 0


Size = NewType("Size", int)
PART = {"type": "part", "size": 3}


def built(annotation, value):
    """What a constructor gets for a parameter of this annotation when the config says `value`."""

    def __init__(self, parameter):
        self.parameter = parameter

    __init__.__annotations__ = {"parameter": annotation}
    cls = type("Whole", (Registrable,), {"__init__": __init__})
    cls.register("whole")(type("WholeKind", (cls,), {}))
    params = Params(copy.deepcopy({"type": "whole", "parameter": value}))
    return cls.from_params(params).parameter


def same(first, second):
    """Equal, and of equal types in every place: a `Params` is not the dict that it equals."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and first == second


def _id(value: Any) -> str:
    return re.sub(r" object at 0x\w+", "", str(value))  # the same in every process


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Base, PART, Part(3)),
        (Base, "part", Part()),
        (Optional[Base], PART, Part(3)),
        (List[Base], [PART], [Part(3)]),
        (list[Base], [PART], [Part(3)]),
        (Optional[list[Base]], [PART], [Part(3)]),
        (Iterable[Base], [PART], [Part(3)]),
        (Set[Base], [PART], {Part(3)}),
        (Tuple[Base, int], [PART, 1], (Part(3), 1)),
        (Dict[str, Base], {"a": PART}, {"a": Part(3)}),
        (Mapping[str, Base], {"a": PART}, {"a": Part(3)}),
        (Dict[str, List[Base]], {"a": [PART]}, {"a": [Part(3)]}),
        (Union[Base, List[Base]], [PART], [Part(3)]),
        (Union[Base, Dict[str, Any]], PART, Part(3)),
        (Union[str, List[str]], "abc", "abc"),
        (Union[str, List[str]], ["abc"], ["abc"]),
        (Union[float, bool], True, True),
        (Union[float, bool], 3, 3),
        (Union[int, float], 3.5, 3.5),
        (Union[str, Dict[str, str], List[str]], {"a": "b"}, {"a": "b"}),
        (Optional[Union[int, str]], "a", "a"),
        (Dict[str, Any], {"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        (Optional[dict], {"a": {"b": 1}}, {"a": {"b": 1}}),
        (Dict[str, List[Any]], {"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        (List[Dict[str, float]], [{"a": 1}], [{"a": 1}]),
        (Any, {"a": 1}, {"a": 1}),
    ],
    ids=_id,
)
def test_forms_that_are_read_as_they_are_meant(annotation, value, expected):
    assert same(built(annotation, value), expected)
    assert misread(annotation) is None


@pytest.mark.parametrize(
    ("annotation", "value", "arrives"),
    [
        # A part that is never built
        (Base | None, PART, PART),
        (list[Base] | None, [PART], [Params(PART)]),
        (List[Base | None], [PART], [Params(PART)]),
        (List[Optional[Base]], [PART], [Params(PART)]),
        (Dict[str, Optional[Base]], {"a": PART}, {"a": PART}),
        ("Base", PART, PART),
        (Optional["Base"], PART, PART),
        (List["Base"], [PART], [Params(PART)]),
        (Sequence[Base], [PART], [Params(PART)]),
        (Optional[Sequence[Base]], [PART], [Params(PART)]),
        (collections.abc.Collection[Base], [PART], [Params(PART)]),
        (FrozenSet[Base], [PART], [Params(PART)]),
        (Deque[Base], [PART], [Params(PART)]),
        (Tuple[Base, ...], [PART], [Params(PART)]),
        (MutableMapping[str, Base], {"a": PART}, {"a": PART}),
        (inspect.Parameter.empty, PART, PART),
        (Plain, {"size": 3}, {"size": 3}),
        (List[Plain], [{"size": 3}], [Params({"size": 3})]),
        (Union[Dict[str, Any], Base], PART, PART),
        # A value that is not what the annotation says, or is changed
        (int | None, "many", "many"),
        (Literal["a", "b"], "c", "c"),
        (Optional[Literal["a"]], "c", "c"),
        (Annotated[int, "pixels"], "many", "many"),
        (Size, "many", "many"),
        (pathlib.Path, "folder", "folder"),
        (Optional[pathlib.Path], "folder", "folder"),
        (List[pathlib.Path], ["folder"], ["folder"]),
        (Color, "no color", "no color"),
        (Type[Base], "part", "part"),
        (Callable[[int], int], "abs", "abs"),
        (Tuple[int, ...], ["many"], ["many"]),
        (Sequence[int], ["many"], ["many"]),
        (List[Optional[float]], ["many"], ["many"]),
        (Dict[int, float], {"1": 2.0}, {"1": 2.0}),
        (List[Dict[str, Any]], [{"a": 1}], [Params({"a": 1})]),
        (List[dict], [{"a": 1}], [Params({"a": 1})]),
        (List[Any], [{"a": 1}], [Params({"a": 1})]),
        (list, [{"a": 1}], [Params({"a": 1})]),
        (List, [{"a": 1}], [Params({"a": 1})]),
        (Union[bool, int], 3, True),
        (Union[int, bool], True, 1),
        (Union[bool, float], 3, True),
        (Union[List[str], str], "abc", ["a", "b", "c"]),
        (Union[List[str], Dict[str, str]], {"a": "b"}, ["a"]),
    ],
    ids=_id,
)
def test_forms_that_are_misread_in_silence(annotation, value, arrives):
    assert same(built(annotation, value), arrives)
    assert misread(annotation)


def test_lazy():
    assert built(Optional[Lazy[Base]], PART).construct() == Part(3)
    assert [lazy.construct() for lazy in built(List[Lazy[Base]], [PART])] == [Part(3)]
    assert misread(Optional[Lazy[Base]]) is None
    assert misread(List[Lazy[Base]]) is None
    assert misread(Lazy["Base"])
    assert misread(Lazy[int])


def test_what_code_hands_over_may_be_of_any_class():
    assert misread(Iterable[Tuple[str, torch.Tensor]]) is None
    assert misread(Optional[Union[int, torch.device]]) is None


def test_constructors_are_read_up_to_the_first_that_takes_no_kwargs():
    class Top(Registrable):
        def __init__(self, unread: Base | None):
            pass

    class Middle(Top):
        def __init__(self, top: Base | None):
            pass

    class Bottom(Middle):
        def __init__(self, bottom: Sequence[Base], **kwargs: Any):
            pass

        @classmethod
        def other(cls, other: Literal["a"], plain: int = 0):
            pass

    for cls in (Top, Middle, Bottom):
        cls.__init__.__module__ = "allencv.parts"
    Bottom.other.__func__.__module__ = "allencv.parts"
    assert [text.split("(")[1].split(":")[0] for text in complaints(Bottom)] == ["bottom", "top"]
    assert [text.split("(")[1].split(":")[0] for text in complaints(Bottom, "other")] == ["other"]
    Middle.__init__.__module__ = "elsewhere"
    assert len(complaints(Bottom)) == 1
