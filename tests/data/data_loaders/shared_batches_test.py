import errno
import gc
import mmap
from typing import Any, Dict, List

import pytest
import torch

from allencv.data.data_loaders import shared_batches
from allencv.data.data_loaders.pinned_batches import mapped
from allencv.data.data_loaders.shared_batches import Placed, SharedBlocks


def batches() -> List[Dict[str, Any]]:
    rows = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    return [
        {"image": rows.permute(0, 3, 1, 2), "label": torch.tensor([3, 1]), "metadata": [{"a": 1}]},
        {"text": {"tokens": {"ids": torch.arange(6).view(2, 3)}}, "flag": torch.tensor([True])},
        {"scalar": torch.tensor(2.5), "none": torch.empty(0, 7), "half": torch.ones(3).bfloat16()},
        {"part": torch.arange(10)[3:5], "channels": rows[:, :2].permute(0, 3, 1, 2)},
        {},
    ]


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(
            same(found[key], expected[key]) for key in expected
        )
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and found.equal(expected)
    return found == expected


def placed(blocks: SharedBlocks, block: int, batch: Any) -> Any:
    return mapped(batch, blocks.writer(block).placed)


def is_in(blocks: SharedBlocks, tensor: torch.Tensor) -> bool:
    starts = {each.ctypes.data for each in blocks._blocks}
    return tensor.untyped_storage().data_ptr() in starts


@pytest.mark.parametrize("number", range(len(batches())))
def test_a_batch_comes_back_as_it_was(number: int) -> None:
    blocks = SharedBlocks(2)
    block = blocks.take()
    assert block is not None
    there = placed(blocks, block, batches()[number])
    flat: List[Any] = []
    mapped(there, flat.append)
    assert not any(isinstance(each, torch.Tensor) for each in flat)
    assert same(blocks.opened(block, there), batches()[number])


def test_a_tensor_made_in_the_block_is_not_copied() -> None:
    blocks = SharedBlocks(2)
    block = blocks.take()
    assert block is not None
    writer = blocks.writer(block)
    labels, rows = writer.empty((3,), torch.int64), writer.empty((2, 4, 5, 3), torch.uint8)
    labels.copy_(torch.arange(3))
    image = rows.permute(0, 3, 1, 2)
    found = writer.placed(image)
    assert (found.start, found.shape, found.stride) == (64, (2, 3, 4, 5), (60, 1, 15, 3))
    opened = blocks.opened(block, {"image": found, "label": writer.placed(labels)})
    rows.fill_(7)
    assert opened["image"].eq(7).all()
    assert opened["image"].is_contiguous(memory_format=torch.channels_last)
    assert opened["label"].tolist() == [0, 1, 2]


def test_a_block_is_free_when_its_last_tensor_is() -> None:
    blocks = SharedBlocks(2)
    gc.disable()  # nor does it wait for the garbage collector
    try:
        block = blocks.take()
        assert block is not None
        batch = blocks.opened(block, placed(blocks, block, batches()[0]))
        assert blocks._free == [0]
        part = batch["image"][1, 2]
        del batch
        assert blocks._free == [0]
        del part
        assert blocks._free == [0, 1]
        assert blocks.take() == block  # its memory is in use by this process already
    finally:
        gc.enable()


def test_any_number_of_batches_can_be_kept() -> None:
    blocks = SharedBlocks(2)
    kept = []
    for number in range(6):
        block = blocks.take()
        assert block is not None
        batch = {"number": torch.tensor([number])}
        kept.append(blocks.opened(block, placed(blocks, block, batch))["number"])
    assert [each.item() for each in kept] == list(range(6))
    assert [is_in(blocks, each) for each in kept] == [True] + [False] * 5
    assert blocks.take() is not None
    assert blocks.take() is None


def test_what_has_no_room_stays_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_batches, "CAPACITY", mmap.PAGESIZE)
    blocks = SharedBlocks(2)
    batch = {"large": torch.zeros(mmap.PAGESIZE + 1, dtype=torch.uint8), "small": torch.ones(2)}
    there = placed(blocks, 1, batch)
    assert isinstance(there["small"], Placed)
    assert same(there["large"], batch["large"])
    assert same(blocks.opened(1, there), batch)


def test_a_batch_may_have_more_than_a_gigabyte() -> None:
    blocks = SharedBlocks(2)
    writer = blocks.writer(1)
    large = writer.empty((2**30 + 1,), torch.uint8)  # nobody touches it, so it takes no memory
    there = {"large": writer.placed(large), "small": writer.placed(torch.tensor([3, 1]))}
    assert (there["large"].start, there["small"].start) == (0, 2**30 + 64)
    opened = blocks.opened(1, there)
    assert is_in(blocks, opened["large"])
    assert len(opened["large"]) == 2**30 + 1
    assert opened["small"].tolist() == [3, 1]


def test_blocks_are_smaller_where_addresses_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (2**40, 2**40))
    assert [len(block) for block in SharedBlocks(2)._blocks] == [2**30] * 2


def test_blocks_are_smaller_where_reserved_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(start: int, size: int, make: Any = mmap.mmap) -> Any:
        if size > 2**30:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return make(start, size)

    monkeypatch.setattr(shared_batches.mmap, "mmap", limited)
    assert [len(block) for block in SharedBlocks(2)._blocks] == [2**30] * 2
