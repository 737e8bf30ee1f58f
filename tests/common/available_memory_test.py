import os
from pathlib import Path

import pytest

from allencv.common.available_memory import available_memory


@pytest.fixture
def info(tmp_path: Path) -> Path:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       9000 kB\nMemAvailable:    500 kB\nHugePages_Total:     0\n")
    return file


def container(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nslab 5\n")
    return folder


def test_what_the_machine_has(info: Path, tmp_path: Path) -> None:
    assert available_memory(info, tmp_path / "none") == 500 * 1024
    assert available_memory(info, container(tmp_path, "max", 0, 0)) == 500 * 1024
    assert available_memory(info, container(tmp_path, "90000000", 0, 0)) == 500 * 1024


def test_a_container_has_less(info: Path, tmp_path: Path) -> None:
    assert available_memory(info, container(tmp_path, "300000", 100000, 30000)) == 230000
    assert available_memory(info, container(tmp_path, "300000", 400000, 30000)) == 0


def test_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    assert available_memory(tmp_path / "none", tmp_path) == 40960
    monkeypatch.delattr(os, "sysconf")
    assert available_memory(tmp_path / "none", tmp_path) is None


def test_this_machine() -> None:
    available = available_memory()
    assert available is None or available > 2**20
