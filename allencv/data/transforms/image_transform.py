from abc import abstractmethod
from typing import Callable, ClassVar, List, NamedTuple, Optional

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams


class Draft(NamedTuple):
    """
    What a transform has drawn for an image before it is decoded: the image may be decoded at
    `1 / shrink` of its size (1, 2, 4 or 8), and `apply` then does what the transform would do to
    the whole image. `apply` takes the image at any size.
    """

    shrink: int
    apply: Callable[[torch.Tensor], torch.Tensor]


class ImageTransform(CheckedFromParams, Registrable):
    """
    Turns one decoded image into another: a crop, a flip, a change of colour.

    Input and output are `(channels, height, width)`. An image arrives as decoded, `uint8` from 0 to
    255, usually a view of a `(height, width, channels)` array, the layout where resizing is
    fastest. A transform may change the size, the number of channels, and the type to `float32`.

    One object serves many threads at once, so a transform keeps nothing from one call to the next.
    It draws its random numbers from torch (`torch.rand`, `torch.randint`, ...), never from `random`
    or `numpy`: the caller decides the generator with `random_source`, and the same seed gives the
    same image.
    """

    is_random: ClassVar[Optional[bool]] = None
    """Whether it draws random numbers; `None` if not known. What it holds does not count."""

    @abstractmethod
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def draft(self, height: int, width: int) -> Optional[Draft]:
        """
        Draws for an image of this size that is not decoded yet, if a smaller one would do; `None`
        for a transform that is to be called with the whole image.
        """
        return None


class InTurn(ImageTransform):
    """Transforms one after the other. What JSON has a list for."""

    is_random = False

    def __init__(self, transforms: List[ImageTransform]) -> None:
        self.transforms = transforms

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        for transform in self.transforms:
            image = transform(image)
        return image

    def draft(self, height: int, width: int) -> Optional[Draft]:
        draft = self.transforms[0].draft(height, width) if self.transforms else None
        if draft is None:
            return None
        return Draft(draft.shrink, InTurn([draft.apply, *self.transforms[1:]]))  # type: ignore[list-item]
