import collections
import enum
import inspect
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Dict,
    Iterable,
    List,
    Literal,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

import pytest
import torch
from allennlp.common import FromParams, Lazy

from allencv.catalogue.argument_types import (
    Choice,
    form_of,
    is_nullable,
    without_null,
)
from allencv.data.transforms import ImageTransform
from allencv.modules.losses import ClassificationLoss


class Color(enum.Enum):
    RED = "r"
    BLUE = object()


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "int"),
        (Path, "str"),
        (Annotated[Path, "a note"], "str"),
        (Color, "'r' or 'BLUE'"),
        (collections.deque[int], "list of int"),
        (Optional[float], "float or null"),
        (Union[int, List[int]], "int or list of int"),
        (List[Union[bytes, str]], "list of (bytes or str)"),
        (list[int], "list of int"),
        (List, "list"),
        (Set[str], "list of str"),
        (Iterable[str], "list of str"),
        (Sequence[str], "list of str"),
        (Tuple[int, str], "[int, str]"),
        (Tuple[int, ...], "list of int"),
        (Dict[str, float], "dict of float"),
        (Dict[str, Any], "dict"),
        (dict, "dict"),
        (Any, "any"),
        (Union[Any, int], "any"),
        (inspect.Parameter.empty, "any"),
        ("ImageTransform", "any"),
        (torch.optim.Optimizer, "Optimizer"),
        (ImageTransform, "ImageTransform"),
        (Lazy[ImageTransform], "ImageTransform"),
        (Optional[List[ImageTransform]], "list of ImageTransform or null"),
        (Literal["a", 2], "'a' or 2"),
        (int | None, "int or null"),
        (Optional[Tuple[float, float]], "[float, float] or null"),
    ],
    ids=str,
)
def test_forms_in_words(annotation: Any, words: str) -> None:
    assert form_of(annotation).describe() == words


def test_null() -> None:
    assert is_nullable(form_of(Optional[int]))
    assert is_nullable(form_of(Any))
    assert not is_nullable(form_of(int))
    assert without_null(form_of(Optional[int])) == form_of(int)
    assert without_null(form_of(type(None))) == form_of(None)
    assert form_of(Literal["a"]) == Choice(("a",))


def test_classes_that_are_built() -> None:
    class Other(FromParams):
        pass

    form = form_of(Union[Dict[str, List[ImageTransform]], Tuple[int, ClassificationLoss], Other])
    assert list(form.classes()) == [ImageTransform, ClassificationLoss, Other]
    assert list(form_of(Dict[str, Any]).classes()) == []
