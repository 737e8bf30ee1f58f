"""Parts as a user writes them, in a file whose annotations are strings, as AllenNLP sees them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, List, Literal, Mapping, NamedTuple, Type, TypedDict

from allennlp.common import Registrable

from allencv.data.transforms import ImageTransform

if TYPE_CHECKING:
    from tests.common.nowhere import Missing  # type: ignore[import-not-found]


class Brush(Registrable):
    """A base that is not ours."""


@Brush.register("round")
class Round(Brush):
    def __init__(self, width: int = 1, inner: Brush | None = None) -> None:
        self.width = width
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Round) and self.width == other.width

    def __hash__(self) -> int:
        return self.width


@ImageTransform.register("test_paint")
class Paint(ImageTransform):
    def __init__(self, brush: Brush | None = None, spare: list[Brush | None] | None = None) -> None:
        self.brush = brush
        self.spare = spare

    def __call__(self, image: Any) -> Any:
        return image


@dataclass
class Ink:
    amount: int
    shades: list[float] = field(default_factory=list)
    under: Ink | None = None
    brush: Brush | None = None


class Corner(NamedTuple):
    x: int
    name: str | None = None


class Frame(TypedDict, total=False):
    width: int


class Speed(enum.Enum):
    SLOW = "s"
    HALF = 0.5


class Untold:
    """A class of which a config says nothing."""


@ImageTransform.register("test_draw")
class Draw(ImageTransform):
    def __init__(
        self,
        ink: Ink | None = None,
        inks: List[Ink] | None = None,
        corner: Corner | None = None,
        frame: Frame | None = None,
        function: Callable[[int], int] | None = None,
        kind: Type[Ink] | None = None,
        speed: Speed | None = None,
        sides: Mapping[Literal["left"], int] | None = None,
        numbers: dict[int, float] | None = None,
        choice: Literal[1, 2, None] = None,
        untold: Untold | None = None,
    ) -> None:
        given = dict(locals())
        self.given = {name: each for name, each in given.items() if name not in ("self",)}

    def __call__(self, image: Any) -> Any:
        return image


@ImageTransform.register("test_unresolved")
class Unresolved(ImageTransform):
    def __init__(self, missing: Missing, count: int = 1) -> None:
        self.missing = missing

    def __call__(self, image: Any) -> Any:
        return image
