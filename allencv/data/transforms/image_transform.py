import itertools
from abc import abstractmethod
from functools import cached_property
from typing import Callable, ClassVar, Iterator, List, NamedTuple, Optional, Tuple

import torch
from allennlp.common import Registrable

from allencv import AllenCVError
from allencv.common.checks import CheckedFromParams
from allencv.common.short_repr import short_repr
from allencv.data.transforms.batch_draws import BatchDraws

OnBatch = Callable[[torch.Tensor], torch.Tensor]


class Draft(NamedTuple):
    """
    The draws of a transform for an image before decoding. The image may be decoded at `1 / shrink`
    of its size (1, 2, 4 or 8); `apply` then does what the transform would do to the whole image.
    `apply` takes the image at any size.
    """

    shrink: int
    apply: Callable[[torch.Tensor], torch.Tensor]


class ImageTransform(CheckedFromParams, Registrable):
    """
    Changes one decoded image: a crop, a flip, a change of colour.

    Input and output are `(channels, height, width)`. The input is usually `uint8` from 0 to 255, a
    view of a `(height, width, channels)` array, the fastest layout for resizing. A transform may
    change the size, the number of channels, and the type to `float32`.

    One object serves many threads at once, so a transform must not keep state between calls. It
    must draw random numbers from torch (`torch.rand`, `torch.randint`, ...), never from `random` or
    `numpy`: the caller sets the generator with `random_source`, so the same seed gives the same
    image.
    """

    is_random: ClassVar[Optional[bool]] = None
    """
    Whether it draws random numbers itself (not its parts); `None` if unknown. Each class says so
    itself: `is_fixed` does not believe what a class inherits.
    """

    @abstractmethod
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        return short_repr(self)

    def is_fixed(self) -> bool:
        """
        Return whether an image always gives the same result, which may then be kept for all epochs
        (`cache` of the "image" data loader). A transform that calls others overrides this.
        """
        return vars(type(self)).get("is_random") is False

    def draft(self, height: int, width: int) -> Optional[Draft]:
        """
        Draw for an image of this size before it is decoded, if a smaller one is enough. Return
        `None` to be called with the whole image instead.
        """
        return None

    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Optional[OnBatch]:
        """
        Draw for a batch of images `(batch, channels, height, width)` at once, each what a call
        draws for it. Return a function that applies the draws to this batch, which it may
        overwrite. On a CPU, its result has the pixels and the layout in memory that the images have
        if they are transformed one by one and then stacked. On other devices, rounding may change
        pixels by 1 of 255.

        Return `None`, and draw nothing, to be called with each image instead. A subclass that
        changes what a call does defines this again: what a class inherits is not used.
        """
        return None

    @property
    def has_batch_form(self) -> bool:
        """Whether the class itself defines `draw_batch`."""
        return "draw_batch" in vars(type(self))


class TransformError(AllenCVError, ValueError):
    """A transform cannot be applied to an image. The message says which one and why."""


def registered_name(transform: object) -> str:
    """Return the name of a transform in a config, or that of its class."""
    names = ImageTransform.list_available()
    registered = [name for name in names if ImageTransform.by_name(name) is type(transform)]
    return registered[0] if registered else type(transform).__name__


class InTurn(ImageTransform):
    """
    Applies transforms one after the other: a list in JSON.

    # Parameters

    transforms : `List[ImageTransform]`, required
    named : `List[ImageTransform]`, optional (default = `transforms`)
        The transforms to name in errors.
    start : `int`, optional (default = `0`)
        The place of the first of them in the reader's list, for errors.

    # Raises

    `TransformError` when called, for any error except lack of memory.
    """

    is_random = False

    def __init__(
        self,
        transforms: List[ImageTransform],
        named: Optional[List[ImageTransform]] = None,
        start: int = 0,
    ) -> None:
        self.transforms = transforms
        self.named = transforms if named is None else named
        self.start = start

    def is_fixed(self) -> bool:
        return super().is_fixed() and all(each.is_fixed() for each in self.transforms)

    @cached_property
    def parts(self) -> Tuple[Optional["InTurn"], Optional["InTurn"]]:
        """
        The transforms before the first that may draw, which give an image the same result in each
        epoch, and the rest. `None` for a part without transforms.
        """
        fixed = list(itertools.takewhile(lambda each: each.is_fixed(), self.transforms))
        rest = self.transforms[len(fixed) :]
        return (
            InTurn(fixed) if fixed else None,
            InTurn(rest, start=len(fixed)) if rest else None,
        )

    def steps(self) -> Iterator[ImageTransform]:
        """Yield the transforms, with those of lists within this one."""
        for transform in self.transforms:
            if isinstance(transform, InTurn) and type(transform).__call__ is InTurn.__call__:
                yield from transform.steps()
            else:
                yield transform

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        for place, transform in enumerate(self.transforms):
            try:
                image = transform(image)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # each transform has its own errors
                name, shape = registered_name(self.named[place]), " x ".join(map(str, image.shape))
                reason = str(error).partition("\n")[0]
                raise TransformError(
                    f"{name} (dataset_reader.transforms.{self.start + place}) cannot be applied to "
                    f"an image of {shape} (channels, height, width): {type(error).__name__}: "
                    f"{reason}"
                ) from error
        return image

    def draft(self, height: int, width: int) -> Optional[Draft]:
        draft = self.transforms[0].draft(height, width) if self.transforms else None
        if draft is None:
            return None
        transforms = [draft.apply, *self.transforms[1:]]
        return Draft(draft.shrink, InTurn(transforms, self.named))  # type: ignore[arg-type]
