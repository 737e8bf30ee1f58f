"""What the ranks of distributed evaluation give each other, and how they share the images."""

from contextlib import contextmanager
from itertools import zip_longest
from typing import (
    Callable,
    Iterator,
    List,
    Optional,
    Protocol,
    Sequence,
    TypeVar,
    runtime_checkable,
)

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed

from allencv.runtime import ImageError

T = TypeVar("T")


@runtime_checkable
class LoaderForEvaluation(Protocol):
    """A data loader that can give each image exactly once, over all ranks."""

    for_evaluation: bool
    """
    Whether an epoch has each image once and in order, in the batches of a single process. Rank `r`
    of `n` gets the batches `r`, `r + n`, `r + 2n` and so on. A batch is `{}` if none of its images
    can be read.
    """
    has_read: bool
    """Whether this rank could read an image of the epoch."""
    unreadable: Optional[str]
    """
    What to say if no image of the epoch can be read; `None` if this rank found none unreadable.
    """


@runtime_checkable
class TakesTurns(Protocol):
    """A model that keeps batches of evaluation, to order those of all ranks."""

    def pass_turn(self) -> None:
        """Note that no image of this rank's next batch can be read."""


def pass_turn(model: object) -> None:
    """Tell a model that no image of this rank's next batch can be read, if it `TakesTurns`."""
    if isinstance(model, TakesTurns):
        model.pass_turn()


@contextmanager
def every_image_once(loader: object) -> Iterator[None]:
    """
    Let a data loader give each image once in the block, if it is a `LoaderForEvaluation`. All ranks
    must use this.

    # Raises

    `ImageError` at the end of the block, if no rank could read an image.
    """
    if not isinstance(loader, LoaderForEvaluation):
        yield
        return
    before, loader.for_evaluation = loader.for_evaluation, True
    try:
        yield
        check_readable(loader)
    finally:
        loader.for_evaluation = before


def check_readable(loader: LoaderForEvaluation) -> None:
    """
    Raise `ImageError` if no rank could read an image of the epoch. All ranks must call this, also
    one whose share has no image.
    """
    of_ranks = gathered((loader.has_read, loader.unreadable))
    errors = [error for _, error in of_ranks if error is not None]
    if errors and not any(has_read for has_read, _ in of_ranks):
        raise ImageError(errors[0])


def is_first_rank() -> bool:
    """Return whether this process writes the files, for all ranks."""
    return not is_distributed() or dist.get_rank() == 0


def gathered(value: T) -> List[T]:
    """Return the values of all ranks in their order. All ranks must call this."""
    if not is_distributed():
        return [value]
    values: List[T] = [value] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def gathered_results(make: Callable[[], T]) -> List[T]:
    """
    Return the results of `make` on all ranks. If it fails on one, the error is raised on all of
    them; the others would otherwise wait for it.
    """
    result: Optional[T] = None
    error: Optional[Exception] = None
    try:
        result = make()
    except Exception as failure:
        if not is_distributed():
            raise
        error = failure
    errors = gathered(None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for rank, message in enumerate(errors):
        if message is not None:
            raise RuntimeError(f"rank {rank} failed: {message}")
    return gathered(result)  # type: ignore[arg-type]


def in_order(of_ranks: Sequence[Sequence[Optional[T]]]) -> List[T]:
    """
    Return the items of all ranks, such as batches, in the order of a single process. `None` takes
    the turn of a batch that has no image.
    """
    return [each for turn in zip_longest(*of_ranks) for each in turn if each is not None]


def copy_buffers(model: torch.nn.Module) -> None:
    """
    Give all ranks the buffers of the first, which is the one that saves the model. In training,
    each rank counts the running statistics of batch normalisation from its own images.
    """
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
