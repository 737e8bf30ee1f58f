"""The batches of one epoch: how many there are, and those from a given one on."""

import itertools
import math
from collections import deque
from typing import Any, Callable, Deque, Iterator, NamedTuple, Optional

import torch
import torch.distributed as dist
from allennlp.data import DataLoader, TensorDict

from allencv.runtime import ImageError
from allencv.training.protocols import SeekableLoader
from allencv.training.running_losses import count_images


class BatchOfRank(NamedTuple):
    """A batch of this rank, and how many images of it count."""

    batch: TensorDict
    images: int
    """The number of its images, or 0 if it only stands in for a batch without images."""
    of_all_ranks: int
    """The number of images of the batches that all ranks use at the same time."""


def count_batches(data_loader: DataLoader) -> Optional[int]:
    """Return the number of batches of an epoch, if known before reading them."""
    try:
        return len(data_loader)
    except TypeError:
        return None


def count_steps(batches: Optional[int], accumulated: int) -> Optional[int]:
    """Return the number of optimizer steps, if each takes up to `accumulated` batches."""
    return None if batches is None else math.ceil(batches / accumulated)


def most_batches(data_loader: DataLoader, device: torch.device) -> Optional[int]:
    """
    Return the number of batches of an epoch, which is that of the rank with the most. All ranks
    must call this.
    """
    length = count_batches(data_loader)
    if length is None:
        return None
    count = torch.tensor(length, device=device)
    dist.all_reduce(count, dist.ReduceOp.MAX)
    return int(count)


def in_step(
    batches: Iterator[TensorDict],
    again: Callable[[], Iterator[TensorDict]],
    count: Callable[[int], Optional[int]],
    group: Any,
    on_left_out: Callable[[], None],
) -> Iterator[BatchOfRank]:
    """
    Yield the batches of this rank, and for all ranks the same number. A rank without an image for a
    batch gets another batch to stand in, whose gradients must not count.

    The ranks tell each other their numbers of images in a batch only if `count` does not know them.

    # Parameters

    batches : `Iterator[TensorDict]`
        The batches; `{}` is one without images.
    again : `Callable`
        Returns the batches of the whole epoch, to find one that can stand in.
    count : `Callable`
        Returns the number of images on all ranks of the batch with a number, counted from the first
        of `batches`, or `None` if it is unknown.
    group : `ProcessGroup`
        A group of all ranks that works on the CPU.
    on_left_out : `Callable`
        Called for each batch without an image on any rank, which is not yielded.
    """
    waiting: Deque[TensorDict] = deque()
    stand_in: Optional[TensorDict] = None
    for number in itertools.count():
        batch = waiting.popleft() if waiting else next(batches, None)
        total = count(number)
        if total is not None:
            if batch is None:
                return
            yield BatchOfRank(batch, count_images(batch), total)
            continue
        mine = count_images(batch) if batch else 0
        answer = torch.tensor([mine, batch is not None])
        dist.all_reduce(answer, group=group)
        total, has_more = answer.tolist()
        if total == 0:
            if not has_more:
                return
            on_left_out()
            continue
        if mine > 0:
            stand_in = batch
        while stand_in is None:
            following = next(batches, None)
            if following is None:
                stand_in = next((each for each in again() if each), None)
                if stand_in is None:
                    raise ImageError(f"rank {dist.get_rank()} has no image that can be read")
            else:
                waiting.append(following)
                stand_in = following or None
        yield BatchOfRank(batch if mine and batch else stand_in, mine, total)


def batches_from(
    data_loader: DataLoader, epoch: int, start: int, left_out: int, is_last: bool
) -> Iterator[TensorDict]:
    """
    Return the batches of an epoch from `start` on.

    # Parameters

    start : `int`
        The number of batches that were trained before an interruption.
    left_out : `int`
        The number of batches before `start` that held no image that could be read.
    is_last : `bool`
        Whether no other epoch follows.
    """
    if not isinstance(data_loader, SeekableLoader):
        # This loader must repeat its random draws to get to the same place.
        return itertools.islice(iter(data_loader), start, None)
    data_loader.batches_left_out = left_out
    data_loader.seek(epoch, start + left_out)
    data_loader.another_epoch_follows = not is_last
    return iter(data_loader)


def read_again(data_loader: DataLoader, epoch: int) -> Iterator[TensorDict]:
    """Return the batches of a whole epoch, without forgetting how many were left out."""
    if not isinstance(data_loader, SeekableLoader):
        return iter(data_loader)
    left_out = data_loader.batches_left_out
    data_loader.seek(epoch)
    batches = iter(data_loader)
    data_loader.batches_left_out = left_out
    return batches


def skip_epoch(data_loader: DataLoader) -> None:
    """Go past an epoch that was trained before an interruption."""
    if not isinstance(data_loader, SeekableLoader):
        for _ in data_loader:
            pass
