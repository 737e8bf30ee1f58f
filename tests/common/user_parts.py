"""Parts as a user writes them, in a file whose annotations are strings, as AllenNLP sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


@ImageTransform.register("test_unresolved")
class Unresolved(ImageTransform):
    def __init__(self, missing: Missing, count: int = 1) -> None:
        self.missing = missing

    def __call__(self, image: Any) -> Any:
        return image
