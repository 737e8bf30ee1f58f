from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import pytest
from allennlp.common import FromParams, Lazy, Params

from allencv.common.annotations import (
    allennlp_builds,
    holds_lazy,
    parameters_of,
    takes_other_keys,
)
from tests.common.registered_annotations_test import built
from tests.common.user_parts import Brush, Paint, Round


def test_parameters_of_the_classes_above() -> None:
    class Child(Paint):
        def __init__(self, size: int, *args: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    parameters = parameters_of(Child, Child.__init__)
    assert {name: each.annotation for name, each in parameters.items()} == {
        **{"brush": Optional[Brush], "spare": Optional[list[Optional[Brush]]], "size": int}
    }
    assert parameters["brush"].default is None


class Closed(FromParams):
    def __init__(self, size: int = 0) -> None: ...


class HandsOn(Closed):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Keeps(Closed):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.kept = dict(**kwargs)


class Both(Closed):
    def __init__(self, **kwargs: Any) -> None:
        self.size = kwargs.pop("other", 0)
        super().__init__(**kwargs)


class HandsOnToKeeps(Keeps):
    def __init__(self, other: int = 0, **more: Any) -> None:
        super().__init__(**more)


class Nothing(FromParams): ...


@pytest.mark.parametrize(
    ("cls", "takes"),
    [(Closed, False), (HandsOn, False), (Keeps, True), (Both, True), (HandsOnToKeeps, True)],
)
def test_other_keys(cls: Any, takes: bool) -> None:
    assert takes_other_keys(cls, cls.__init__) == takes


def test_a_class_without_a_constructor_takes_nothing() -> None:
    assert not takes_other_keys(Nothing, Nothing.__init__)
    assert parameters_of(Nothing, Nothing.__init__) == {}


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Brush, "brush"),
        (Optional[Brush], "brush"),
        (Brush | None, "brush"),
        (List[Brush], ["brush"]),
        (list[Brush], ["brush"]),
        (list[Brush] | None, ["brush"]),
        (List[Optional[Brush]], ["brush"]),
        (List[Sequence[Brush]], [["brush"]]),
        (Sequence[Brush], ["brush"]),
        (Iterable[Brush], ["brush"]),
        (Tuple[Brush, ...], ["brush"]),
        (Tuple[Brush, int], ["brush", 1]),
        (Dict[str, Brush], {"a": "brush"}),
        (Mapping[str, List[Brush]], {"a": ["brush"]}),
        (Dict[str, Brush | None], {"a": "brush"}),
        (Union[Brush, List[Brush]], "brush"),
        ("Brush", "brush"),
    ],
)
def test_what_allennlp_builds(annotation: Any, value: Any) -> None:
    """Compared with what it does."""

    def with_parts(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: with_parts(each) for key, each in value.items()}
        if isinstance(value, list):
            return [with_parts(each) for each in value]
        return {"type": "round"} if value == "brush" else value

    def is_built(value: Any) -> bool:
        if isinstance(value, (dict, Params)) and "type" in value:
            return False
        if isinstance(value, dict):
            return all(map(is_built, value.values()))
        return all(map(is_built, value)) if isinstance(value, (list, tuple)) else True

    assert allennlp_builds(annotation) == is_built(built(annotation, with_parts(value)))


def test_lazy() -> None:
    assert holds_lazy(List[Lazy[Round]] | None)
    assert not holds_lazy(List[Round])


def test_a_constructor_that_a_notebook_edits() -> None:
    """As IPython's autoreload does it."""

    class Edited(FromParams):
        def __init__(self, first: int) -> None: ...

    def __init__(self: Any, first: int, second: str = "") -> None: ...

    assert list(parameters_of(Edited, Edited.__init__)) == ["first"]
    for name in ("__code__", "__defaults__", "__annotations__"):
        setattr(Edited.__init__, name, getattr(__init__, name))
    assert list(parameters_of(Edited, Edited.__init__)) == ["first", "second"]
