import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from allencv.common.memory import reuse_freed_memory
if sys.argv[1] == "reuse":
    assert reuse_freed_memory(1 << 30) and reuse_freed_memory(1 << 20)
torch.set_num_threads(1)
before = 0
for step in range(36):
    if step == 6:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000).add_(1)  # 40 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True
    ).stdout
    return int(output)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_is_cleared_once_and_not_each_time() -> None:
    assert page_faults("reuse") * 3 < page_faults("default")


@pytest.mark.parametrize("variable", ["GLIBC_TUNABLES", "MALLOC_MMAP_MAX_"])
def test_the_users_own_settings_stand(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from allencv.common.memory import reuse_freed_memory

    assert variable not in os.environ
    monkeypatch.setenv(variable, "")
    assert not reuse_freed_memory(1 << 20)
