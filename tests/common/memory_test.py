import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from allencv.common import memory
from allencv.common.memory import reused_memory
from tests.conftest import Run

PROGRAM = """
import resource
import torch
from allencv.common.memory import reuse_freed_memory
torch.set_num_threads(1)

def page_faults():
    for step in range(12):
        if step == 8:  # by then the heap of a forked process has room for it
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)  # 40 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = page_faults()
assert reuse_freed_memory(1 << 30)
print(by_default, page_faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_is_cleared_once_and_not_each_time(run: Run) -> None:
    by_default, with_reuse = map(int, run("python", "-c", PROGRAM).stdout.split())
    assert with_reuse * 3 < by_default


@pytest.mark.parametrize("variable", ["GLIBC_TUNABLES", "MALLOC_MMAP_MAX_"])
def test_the_users_own_settings_stand(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from allencv.common.memory import reuse_freed_memory

    assert variable not in os.environ
    monkeypatch.setenv(variable, "")
    assert not reuse_freed_memory(1 << 20)


def address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_a_tensor_has_the_shape_and_type_asked_for(dtype: torch.dtype) -> None:
    tensor = reused_memory((2, 3, 5), dtype).fill_(7)
    assert tensor.shape == (2, 3, 5)
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    assert tensor.eq(7).all()


def test_memory_is_used_again_when_nobody_has_it_any_more() -> None:
    size = (1000, 1001)
    first, second = reused_memory(size, torch.float32), reused_memory(size, torch.float32)
    assert address(first) != address(second)
    place, row = address(first), first[3].fill_(2)
    del first
    third = reused_memory(size, torch.float32).fill_(1)
    assert address(third) != place, "a part of the first is still in use"
    assert row.eq(2).all()
    del row
    assert address(reused_memory(size, torch.float32)) == place
    assert address(reused_memory((10,), torch.float32)) == place, "a smaller one fits too"
    assert address(reused_memory(size, torch.uint8)) != place, "another type has its own"


def test_what_has_become_too_small_is_given_up() -> None:
    small = [reused_memory((1000,), torch.float64) for _ in range(3)]
    small.clear()
    large = reused_memory((2000,), torch.float64)
    assert len(memory._free[torch.float64]) == 0
    del large
    assert [len(each) for each in memory._free[torch.float64].values()] == [2000 * 8]


def test_threads_never_share_memory() -> None:
    def work(number: int) -> bool:
        for _ in range(200):
            mine = reused_memory((50_000,), torch.float32).fill_(number)
            if not mine.eq(number).all():
                return False
        return True

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(work, range(16)))
    assert len(memory._free[torch.float32]) <= 16
