"""What the ranks of distributed evaluation give each other, and how they share the images."""

from contextlib import contextmanager
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

T = TypeVar("T")


@runtime_checkable
class LoaderForEvaluation(Protocol):
    """A data loader that can give each image exactly once, over all ranks."""

    for_evaluation: bool
    """
    Whether an epoch has each image once and in order, in the batches of a single process. Rank `r`
    of `n` gets the batches `r`, `r + n`, `r + 2n` and so on.
    """


@contextmanager
def every_image_once(loader: object) -> Iterator[None]:
    """Let a data loader give each image once in the block, if it is a `LoaderForEvaluation`."""
    if not isinstance(loader, LoaderForEvaluation):
        yield
        return
    before, loader.for_evaluation = loader.for_evaluation, True
    try:
        yield
    finally:
        loader.for_evaluation = before


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


def in_order(of_ranks: Sequence[Sequence[T]]) -> List[T]:
    """Return the items of all ranks, such as batches, in the order of a single process."""
    longest = max(map(len, of_ranks), default=0)
    return [each[index] for index in range(longest) for each in of_ranks if index < len(each)]


def copy_buffers(model: torch.nn.Module) -> None:
    """
    Give all ranks the buffers of the first, which is the one that saves the model. In training,
    each rank counts the running statistics of batch normalisation from its own images.
    """
    if is_distributed():
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
