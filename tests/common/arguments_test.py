"""What a part of ours gets for each form of annotation, which AllenNLP alone misreads."""

import collections
import collections.abc
import enum
import json
import pathlib
import re
from typing import (
    Annotated,
    Any,
    Deque,
    Dict,
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
    Union,
)

import pytest
from allennlp.common import Lazy, Params, Registrable
from allennlp.common.checks import ConfigurationError

from allencv.common.checks import CheckedFromParams
from allencv.data.transforms import ImageTransform
from tests.common.user_parts import Brush, Paint, Round, Unresolved


class Color(enum.Enum):
    RED = "r"
    BLUE = object()


Size = NewType("Size", int)
ROUND = {"type": "round", "width": 3}


def built(annotation: Any, value: Any) -> Any:
    """What a constructor gets for an argument of this annotation when the config has `value`."""

    def __init__(self: Any, argument: Any) -> None:
        self.argument = argument

    __init__.__annotations__ = {"argument": annotation}
    whole = type("Whole", (CheckedFromParams, Registrable), {"__init__": __init__})
    whole.register("part")(type("Part", (whole,), {}))  # type: ignore[attr-defined]
    config = json.loads(json.dumps({"type": "part", "argument": value}))
    return whole.from_params(Params(config, history="model.")).argument  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (Brush, ROUND, Round(3)),
        (Brush, "round", Round()),
        (Brush | None, ROUND, Round(3)),
        (Brush | None, "round", Round()),
        (Brush | None, None, None),
        (Optional[Brush], ROUND, Round(3)),
        (Optional["Brush"], ROUND, Round(3)),
        ("Brush | None", ROUND, Round(3)),
        ("list[Brush]", [ROUND], [Round(3)]),
        (list["Brush"], [ROUND], [Round(3)]),
        (list[Brush] | None, [ROUND, "round"], [Round(3), Round()]),
        (List[Brush | None], [ROUND, None], [Round(3), None]),
        (dict[str, Brush | None], {"a": ROUND, "b": None}, {"a": Round(3), "b": None}),
        (Sequence[Brush], [ROUND], [Round(3)]),
        (Iterable[Brush], [ROUND], [Round(3)]),
        (collections.abc.Collection[Brush], [ROUND], [Round(3)]),
        (Set[Brush], [ROUND], {Round(3)}),
        (FrozenSet[Brush], [ROUND], frozenset([Round(3)])),
        (Deque[Brush], [ROUND], collections.deque([Round(3)])),
        (Tuple[Brush, ...], [ROUND, ROUND], (Round(3), Round(3))),
        (tuple[Brush, int] | None, [ROUND, 1], (Round(3), 1)),
        (Mapping[str, Sequence[Brush]], {"a": [ROUND]}, {"a": [Round(3)]}),
        (MutableMapping[str, Brush], {"a": ROUND}, {"a": Round(3)}),
        (Dict[int, float], {"1": 2.0, "-3": 1}, {1: 2.0, -3: 1}),
        (Annotated[Brush, "a note"], ROUND, Round(3)),
        (Annotated[Brush | None, "a note"], ROUND, Round(3)),
        (Brush | list[Brush], [ROUND], [Round(3)]),
        (Brush | dict[str, float], {"a": 1.0}, {"a": 1.0}),
        (int | None, 3, 3),
        (Size, 3, 3),
        (bool | int, 3, 3),
        (int | bool, True, True),
        (float | bool, 3, 3),
        (str | list[str], "abc", "abc"),
        (Literal["a", "b"], "b", "b"),
        (Literal["a", 1] | None, 1, 1),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (pathlib.Path | None, "a/b", pathlib.Path("a/b")),
        (list[pathlib.Path], ["a"], [pathlib.Path("a")]),
        (Color, "r", Color.RED),
        (Color | None, "BLUE", Color.BLUE),
        (Any, {"a": [{"b": 1}]}, {"a": [{"b": 1}]}),
        (List[Any], [{"a": 1}], [{"a": 1}]),
        (list, [{"a": 1}], [{"a": 1}]),
        (dict, {"a": {"b": 1}}, {"a": {"b": 1}}),
        (List[Dict[str, Any]], [{"a": 1}], [{"a": 1}]),
    ],
)
def test_a_part_gets_what_its_annotation_says(annotation: Any, value: Any, expected: Any) -> None:
    argument = built(annotation, value)
    assert argument == expected
    assert type(argument) is type(expected)
    if isinstance(expected, list):
        assert [type(each) for each in argument] == [type(each) for each in expected]


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "many", "model.argument is 'many'; expected int"),
        (int | None, "many", "model.argument is 'many'; expected int | None"),
        (str, 3, "model.argument is 3; expected str"),
        (bool, "true", "model.argument is 'true'; expected bool"),
        (float, True, "model.argument is True; expected float"),
        (list[float | None], ["x"], "model.argument.0 is 'x'; expected float | None"),
        (List[str], "abc", "model.argument is 'abc'; expected List[str]"),
        (tuple[int, int], [1, 2, 3], "model.argument is [1, 2, 3]; expected tuple[int, int]"),
        (Tuple[int, ...], [1, "x"], "model.argument.1 is 'x'; expected int"),
        (Literal["a", "b"], "c", "model.argument is 'c'; expected Literal['a', 'b']"),
        (Literal[1], True, "model.argument is True; expected Literal[1]"),
        (Color, "green", "model.argument is 'green'; expected Literal['r', 'BLUE']"),
        (pathlib.Path, 3, "model.argument is 3; expected str"),
        (Dict[str, int], [1], "model.argument is [1]; expected Dict[str, int]"),
        (Dict[int, float], {"x": 1.0}, "model.argument.x is 'x'; expected int"),
        (Brush | dict[str, float], {"type": "rond"}, "rond"),
        (Union[int, List[int]], ["x"], "model.argument.0 is 'x'; expected int"),
    ],
)
def test_a_value_that_does_not_fit(annotation: Any, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        built(annotation, value)


def test_lazy() -> None:
    for annotation in (Lazy[Brush], Lazy[Brush] | None, Optional[Lazy[Brush]]):
        assert built(annotation, ROUND).construct() == Round(3)
        assert built(annotation, "round").construct(width=5) == Round(5)
    (lazy,) = built(Sequence[Lazy[Brush]], [ROUND])
    assert lazy.construct() == Round(3)


def test_a_file_whose_annotations_are_strings() -> None:
    config = {"type": "test_paint", "brush": ROUND, "spare": [ROUND, None]}
    paint = ImageTransform.from_params(Params(config))
    assert isinstance(paint, Paint)
    assert paint.brush == Round(3)
    assert paint.spare == [Round(3), None]


def test_a_name_that_cannot_be_looked_up() -> None:
    config = {"type": "test_unresolved", "missing": 3, "count": 2}
    transform = ImageTransform.from_params(Params(config))
    assert isinstance(transform, Unresolved)
    assert transform.missing == 3, "what needs no building is handed over"
    with pytest.raises(ConfigurationError, match="missing has the annotation 'Missing', which can"):
        ImageTransform.from_params(Params({"type": "test_unresolved", "missing": {"a": 1}}))
