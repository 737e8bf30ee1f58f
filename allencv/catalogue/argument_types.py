"""What a config may give for an argument, read from its annotation."""

import collections.abc
import enum
import inspect
import pathlib
from dataclasses import dataclass, field
from typing import Any, Iterator, Literal, Tuple, Union, get_args, get_origin

from allennlp.common import Lazy

from allencv.common.annotations import UNIONS, unwrapped
from allencv.common.arguments import DICTS, LISTS, enum_choices
from allencv.common.records import is_record


@dataclass(frozen=True)
class Plain:
    """A JSON value: `str`, `int`, `float`, `bool`, or the type of `None`."""

    type: type


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: Tuple[Any, ...]
    names: Tuple[str, ...] = ()
    """Other names of the values: those of an enum's members."""

    def takes(self, value: Any) -> bool:
        """Return whether a value is one of them. `true` is not 1."""
        return any(
            type(value) is type(each) and value == each for each in (*self.values, *self.names)
        )


@dataclass(frozen=True)
class Object:
    """A part, or another class built from an object in a config."""

    cls: type


@dataclass(frozen=True)
class ListOf:
    item: "Form"


@dataclass(frozen=True)
class TupleOf:
    """A list of fixed length."""

    items: Tuple["Form", ...]


@dataclass(frozen=True)
class DictOf:
    value: "Form"
    key: "Form" = Plain(str)


@dataclass(frozen=True)
class UnionOf:
    members: Tuple["Form", ...]


@dataclass(frozen=True)
class Anything:
    """A value that is passed on unchanged. `name` is the class that code would pass."""

    name: str = "any"
    annotation: Any = field(default=Any, compare=False)


Form = Union[Plain, Choice, Object, ListOf, TupleOf, DictOf, UnionOf, Anything]
NULL = Plain(type(None))


def form_of(annotation: Any) -> Form:
    """Return the form of the values in a config for this annotation."""
    annotation = unwrapped(annotation)
    origin, members = get_origin(annotation) or annotation, get_args(annotation)
    if annotation in (str, int, float, bool, type(None), None):
        return Plain(annotation or type(None))
    if origin is Lazy:
        return form_of(members[0])
    if origin in UNIONS:
        return _union(tuple(form_of(member) for member in members))
    if origin is Literal:
        return Choice(members)
    if origin is tuple and members and Ellipsis not in members:
        return TupleOf(tuple(form_of(member) for member in members))
    if origin in DICTS:
        return DictOf(form_of(members[1]), form_of(members[0])) if members else DictOf(Anything())
    if origin in LISTS:
        return ListOf(form_of(members[0]) if members else Anything())
    if inspect.isclass(annotation) and hasattr(annotation, "from_params"):
        return Object(annotation)
    if is_record(origin):
        return Object(origin)
    if inspect.isclass(annotation) and issubclass(annotation, pathlib.PurePath):
        return Plain(str)
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return Choice(tuple(enum_choices(annotation)), tuple(annotation.__members__))
    is_named = inspect.isclass(annotation) and annotation not in (Any, inspect.Parameter.empty)
    if origin in (collections.abc.Callable, type):
        return Anything("function" if origin is not type else "class", annotation)
    return Anything(annotation.__name__ if is_named else "any", annotation)


def _union(members: Tuple[Form, ...]) -> Form:
    if Plain(str) in members:  # Union[str, os.PathLike]
        members = tuple(member for member in members if member != Anything("PathLike"))
    if any(isinstance(member, Anything) and member.name == "any" for member in members):
        return Anything()
    return members[0] if len(members) == 1 else UnionOf(members)


def members_of(form: Form) -> Tuple[Form, ...]:
    return form.members if isinstance(form, UnionOf) else (form,)


def is_nullable(form: Form) -> bool:
    return isinstance(form, Anything) or NULL in members_of(form)


def without_null(form: Form) -> Form:
    return _union(tuple(member for member in members_of(form) if member != NULL) or (NULL,))


def classes_in(form: Form) -> Iterator[type]:
    """Yield the classes that are built for this form."""
    if isinstance(form, Object):
        yield form.cls
    elif isinstance(form, ListOf):
        yield from classes_in(form.item)
    elif isinstance(form, DictOf):
        yield from classes_in(form.value)
    elif isinstance(form, (TupleOf, UnionOf)):
        for member in form.items if isinstance(form, TupleOf) else form.members:
            yield from classes_in(member)


def describe_form(form: Form) -> str:
    """Return the form in words: "int or list of int"."""
    if isinstance(form, Plain):
        return "null" if form == NULL else form.type.__name__
    if isinstance(form, Choice):
        return " or ".join(repr(value) for value in form.values)
    if isinstance(form, Object):
        return form.cls.__name__
    if isinstance(form, TupleOf):
        return f"[{', '.join(map(describe_form, form.items))}]"
    if isinstance(form, (ListOf, DictOf)):
        kind = "list" if isinstance(form, ListOf) else "dict"
        inner = form.item if isinstance(form, ListOf) else form.value
        words = describe_form(inner)
        if words == "any":
            return kind
        return f"{kind} of ({words})" if isinstance(inner, UnionOf) else f"{kind} of {words}"
    if isinstance(form, UnionOf):
        return " or ".join(map(describe_form, form.members))
    return form.name
