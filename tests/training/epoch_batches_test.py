from typing import Any, Dict, Iterator, List, Optional

import pytest
import torch
import torch.distributed as dist

from allencv.training.epoch_batches import (
    batches_from,
    count_batches,
    count_steps,
    fewest_batches,
    skip_epoch,
)
from allencv.training.protocols import SeekableLoader


class Loader:
    """A loader that can only begin at the beginning; it has five batches."""

    def __init__(self) -> None:
        self.read: List[int] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in range(5):
            self.read.append(batch)
            yield batch


class Seekable(Loader):
    data_path = "images"
    batches_left_out = 0
    another_epoch_follows = False
    at = (0, 0)

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Any]:
        for batch in range(self.at[1], 5):
            self.read.append(batch)
            yield batch

    def seek(self, epoch: int, batch: int = 0) -> None:
        self.at = (epoch, batch)

    def labels(self) -> Dict[str, int]:
        return {}

    def iter_instances(self) -> Iterator[Any]:
        return iter([])


def test_the_number_of_batches() -> None:
    assert count_batches(Seekable()) == 5
    assert count_batches(Loader()) is None


@pytest.mark.parametrize(
    ("batches", "accumulated", "steps"),
    [(6, 2, 3), (5, 2, 3), (5, 1, 5), (1, 4, 1), (None, 2, None)],
)
def test_the_number_of_steps(
    batches: Optional[int], accumulated: int, steps: Optional[int]
) -> None:
    assert count_steps(batches, accumulated) == steps


def test_a_loader_that_seeks_reads_nothing_from_before() -> None:
    loader = Seekable()
    assert isinstance(loader, SeekableLoader)
    assert list(batches_from(loader, 3, 2, left_out=1, is_last=False)) == [3, 4]
    assert loader.read == [3, 4]
    assert loader.at == (3, 3)
    assert loader.batches_left_out == 1
    assert loader.another_epoch_follows
    batches_from(loader, 4, 0, left_out=0, is_last=True)
    assert loader.batches_left_out == 0
    assert not loader.another_epoch_follows


def test_another_loader_reads_from_the_beginning() -> None:
    loader = Loader()
    assert list(batches_from(loader, 3, 2, left_out=0, is_last=False)) == [2, 3, 4]
    assert loader.read == [0, 1, 2, 3, 4]


def test_an_epoch_is_skipped_by_reading_it_where_nothing_else_helps() -> None:
    plain, seekable = Loader(), Seekable()
    skip_epoch(plain)
    skip_epoch(seekable)
    assert (plain.read, seekable.read) == ([0, 1, 2, 3, 4], [])


def test_the_fewest_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce(count: torch.Tensor, operation: Any) -> None:
        assert operation == dist.ReduceOp.MIN
        count.clamp_(max=3)  # another rank has three

    monkeypatch.setattr(dist, "all_reduce", reduce)
    assert fewest_batches(Seekable(), torch.device("cpu")) == 3
    assert fewest_batches(Loader(), torch.device("cpu")) is None
