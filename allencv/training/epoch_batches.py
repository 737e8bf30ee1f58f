"""The batches of one epoch: how many there are, and those from a given one on."""

import itertools
import math
from typing import Iterator, Optional

import torch
import torch.distributed as dist
from allennlp.data import DataLoader, TensorDict

from allencv.training.protocols import SeekableLoader


def count_batches(data_loader: DataLoader) -> Optional[int]:
    """Return the number of batches of an epoch, if known before reading them."""
    try:
        return len(data_loader)
    except TypeError:
        return None


def count_steps(batches: Optional[int], accumulated: int) -> Optional[int]:
    """Return the number of optimizer steps, if each takes up to `accumulated` batches."""
    return None if batches is None else math.ceil(batches / accumulated)


def fewest_batches(data_loader: DataLoader, device: torch.device) -> Optional[int]:
    """Return the number of batches on the rank with the fewest. All ranks must call this."""
    length = count_batches(data_loader)
    if length is None:
        return None
    count = torch.tensor(length, device=device)
    dist.all_reduce(count, dist.ReduceOp.MIN)
    return int(count)


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
