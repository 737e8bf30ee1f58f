from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from allencv.training.epoch_batches import (
    batches_from,
    count_batches,
    count_steps,
    in_step,
    most_batches,
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

    def keep_pace(self) -> None:
        pass

    def seek(self, epoch: int, batch: int = 0) -> None:
        self.at = (epoch, batch)

    def count_images(self, batch: int) -> Optional[int]:
        return None

    def identity(self) -> Dict[str, object]:
        return {}

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


def test_the_most_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def reduce(count: torch.Tensor, operation: Any) -> None:
        assert operation == dist.ReduceOp.MAX
        count.clamp_(min=7)  # another rank has seven

    monkeypatch.setattr(dist, "all_reduce", reduce)
    assert most_batches(Seekable(), torch.device("cpu")) == 7
    assert most_batches(Loader(), torch.device("cpu")) is None


Read = List[Tuple[int, int, int]]
"""Of each batch that a rank uses: its number, how many images count, and those of all ranks."""


def test_ranks_with_a_known_number_of_images_ask_no_other() -> None:
    batches = [{"image": torch.full((size,), size)} for size in (3, 2)]
    counts = [5, 4]
    count, device = (lambda batch: [*counts, 0][batch]), torch.device("cpu")
    read = list(in_step(iter(batches), count, None, device, list))
    assert read == [(batches[0], 3, 5), (batches[1], 2, 4)]


BATCHES = {
    "without images": [[2, 0, 2, 0], [0, 0, 3, 1]],
    "fewer": [[2, 2, 2], [2]],
    "none on a rank": [[2, 1], []],
    "only the last has images": [[], [0], [0, 2]],
    "none at all": [[0], []],
}


def read_in_step(rank: int, batches: List[List[int]], world_size: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world_size)
    mine = [
        {"image": torch.full((size,), 10 * rank + number)} if size else {}
        for number, size in enumerate(batches[rank])
    ]
    left_out: List[bool] = []
    read: Read = [
        (int(each.batch["image"][0]), each.images, each.of_all_ranks)
        for each in in_step(
            iter(mine),
            lambda batch: None,
            None,
            torch.device("cpu"),
            lambda: left_out.append(True),
        )
    ]
    torch.save((read, len(left_out)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("case", "expected", "left_out"),
    [
        (
            "without images",
            [[(0, 2, 2), (2, 2, 5), (2, 0, 1)], [(0, 0, 2), (12, 3, 5), (13, 1, 1)]],
            1,
        ),
        ("fewer", [[(0, 2, 4), (1, 2, 2), (2, 2, 2)], [(10, 2, 4), (10, 0, 2), (10, 0, 2)]], 0),
        ("none on a rank", [[(0, 2, 2), (1, 1, 1)], [(0, 0, 2), (0, 0, 1)]], 0),
        ("only the last has images", [[(21, 0, 2)], [(21, 0, 2)], [(21, 2, 2)]], 1),
        ("none at all", [[], []], 1),
    ],
)
def test_ranks_use_equally_many_batches(
    case: str, expected: List[Read], left_out: int, tmp_path: Path
) -> None:
    ranks = len(BATCHES[case])
    arguments = (BATCHES[case], ranks, str(tmp_path))
    mp.start_processes(read_in_step, arguments, ranks, start_method="fork")
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    assert found == [(read, left_out) for read in expected]
