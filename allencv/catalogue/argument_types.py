"""What a config may give for an argument, read from its annotation."""

import collections.abc
import enum
import inspect
import pathlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Iterator, Literal, Tuple, Union, get_args, get_origin

from allennlp.common import Lazy

from allencv.common.annotations import UNIONS, unwrapped
from allencv.common.arguments import DICTS, LISTS, enum_choices, is_one_of, is_plain
from allencv.common.records import is_record


class _Kind(ABC):
    """A kind of value in a config."""

    @abstractmethod
    def describe(self) -> str:
        """Return the kind in words: "int or list of int"."""

    def inner(self) -> Tuple["Form", ...]:
        """Return the forms of the values inside."""
        return ()

    def classes(self) -> Iterator[type]:
        """Yield the classes that are built for this kind."""
        for form in self.inner():
            yield from form.classes()


@dataclass(frozen=True)
class Plain(_Kind):
    """A JSON value: `str`, `int`, `float`, `bool`, or the type of `None`."""

    type: type

    def takes(self, value: Any) -> bool:
        return is_plain(value, self.type)

    def describe(self) -> str:
        return "null" if self == NULL else self.type.__name__


@dataclass(frozen=True)
class Choice(_Kind):
    """One of some values."""

    values: Tuple[Any, ...]
    names: Tuple[str, ...] = ()
    """Other names of the values: those of an enum's members."""

    def takes(self, value: Any) -> bool:
        return is_one_of(value, (*self.values, *self.names))

    def describe(self) -> str:
        return " or ".join(repr(value) for value in self.values)


@dataclass(frozen=True)
class Object(_Kind):
    """A part, or another class built from an object in a config."""

    cls: type

    def describe(self) -> str:
        return self.cls.__name__

    def classes(self) -> Iterator[type]:
        yield self.cls


@dataclass(frozen=True)
class ListOf(_Kind):
    item: "Form"

    def describe(self) -> str:
        return _filled("list", self.item)

    def inner(self) -> Tuple["Form", ...]:
        return (self.item,)


@dataclass(frozen=True)
class TupleOf(_Kind):
    """A list of fixed length."""

    items: Tuple["Form", ...]

    def describe(self) -> str:
        return f"[{', '.join(item.describe() for item in self.items)}]"

    def inner(self) -> Tuple["Form", ...]:
        return self.items


@dataclass(frozen=True)
class DictOf(_Kind):
    value: "Form"
    key: "Form" = Plain(str)

    def describe(self) -> str:
        return _filled("dict", self.value)

    def inner(self) -> Tuple["Form", ...]:
        return (self.value,)


@dataclass(frozen=True)
class UnionOf(_Kind):
    members: Tuple["Form", ...]

    def describe(self) -> str:
        return " or ".join(member.describe() for member in self.members)

    def inner(self) -> Tuple["Form", ...]:
        return self.members


@dataclass(frozen=True)
class Anything(_Kind):
    """A value that is passed on unchanged. `name` is the class that code would pass."""

    name: str = "any"
    annotation: Any = field(default=Any, compare=False)

    def describe(self) -> str:
        return self.name


def _filled(kind: str, inner: "Form") -> str:
    """Return "list of int", or only "list" if it may hold anything."""
    words = inner.describe()
    if words == "any":
        return kind
    return f"{kind} of ({words})" if isinstance(inner, UnionOf) else f"{kind} of {words}"


Form = Union[Plain, Choice, Object, ListOf, TupleOf, DictOf, UnionOf, Anything]
"""All kinds. A `match` over them ends with `assert_never`: mypy then finds one that is missing."""
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
