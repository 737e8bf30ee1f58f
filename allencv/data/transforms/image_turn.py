from contextlib import contextmanager
from contextvars import ContextVar
from typing import Iterator, NamedTuple, Optional


class ImageTurn(NamedTuple):
    """The use of an image in an epoch, for transforms that depend on earlier epochs."""

    seed: int
    """The seed of the data loader."""
    epoch: int
    """Counts from 0."""
    image: object
    """The number of the image, or where it comes from. Its text is the same in every epoch."""


_turn: ContextVar[Optional[ImageTurn]] = ContextVar("allencv_image_turn", default=None)


@contextmanager
def image_turn(turn: Optional[ImageTurn]) -> Iterator[None]:
    """Let transforms inside know which use of an image this is."""
    token = _turn.set(turn)
    try:
        yield
    finally:
        _turn.reset(token)


def current_turn() -> Optional[ImageTurn]:
    """Return the turn of the image that this thread transforms; `None` outside of a data loader."""
    return _turn.get()
