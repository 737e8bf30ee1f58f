"""The batches of one epoch: how many there are, and those from a given one on."""

import itertools
import math
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import torch
import torch.distributed as dist
from allennlp.data import DataLoader, TensorDict
from allennlp.nn.util import move_to_device

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
    count: Callable[[int], Optional[int]],
    group: Any,
    device: torch.device,
    on_left_out: Callable[[], None],
) -> Iterator[BatchOfRank]:
    """
    Yield the batches of this rank, and for all ranks the same number. A rank without an image for a
    batch gets another batch to stand in, its last or one of another rank, which must not count.

    The ranks tell each other their numbers of images in a batch only if `count` does not know them.

    # Parameters

    batches : `Iterator[TensorDict]`
        The batches; `{}` is one without images.
    count : `Callable`
        Returns the number of images on all ranks of the batch with a number, counted from the first
        of `batches`, or `None` if it is unknown.
    group : `ProcessGroup`
        A group of all ranks that works on the CPU.
    device : `torch.device`
        The device of the batches.
    on_left_out : `Callable`
        Called for each batch without an image on any rank, which is not yielded.
    """
    stand_in: TensorDict = {}
    for number in itertools.count():
        batch = next(batches, None)
        total = count(number)
        if total is not None:
            if batch is None:
                return
            yield BatchOfRank(batch, count_images(batch), total)
            continue
        mine = count_images(batch) if batch else 0
        stand_in = batch or stand_in
        of_ranks, has_more, is_lacking = _of_all_ranks(mine, batch is not None, not stand_in, group)
        if not any(of_ranks):
            if not has_more:
                return
            on_left_out()
            continue
        if is_lacking:
            first = next(rank for rank, images in enumerate(of_ranks) if images)
            given = _batch_of(first, stand_in, group, device)
            stand_in = stand_in or given
        yield BatchOfRank(stand_in, mine, sum(of_ranks))


def _of_all_ranks(
    images: int, has_more: bool, is_lacking: bool, group: Any
) -> Tuple[List[int], bool, bool]:
    """
    Return the numbers of images of all ranks, whether one of them has another batch, and whether
    one lacks a batch to stand in.
    """
    answer = torch.zeros(dist.get_world_size() + 2, dtype=torch.long)
    answer[dist.get_rank()] = images
    answer[-2], answer[-1] = has_more, is_lacking
    dist.all_reduce(answer, group=group)
    *of_ranks, ranks_with_more, ranks_lacking = answer.tolist()
    return of_ranks, ranks_with_more > 0, ranks_lacking > 0


def _batch_of(rank: int, batch: TensorDict, group: Any, device: torch.device) -> TensorDict:
    """Return the batch of a rank. All ranks must call this."""
    box = [move_to_device(batch, torch.device("cpu")) if dist.get_rank() == rank else None]
    dist.broadcast_object_list(box, rank, group)
    return move_to_device(box[0], device)


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


def skip_epoch(data_loader: DataLoader) -> None:
    """Go past an epoch that was trained before an interruption."""
    if not isinstance(data_loader, SeekableLoader):
        for _ in data_loader:
            pass
