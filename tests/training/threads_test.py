from typing import Iterator, List

import pytest
import torch

from allencv.training import threads
from allencv.training.threads import fewer_threads_beside_others, hint_at_fewer_threads


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(usual)


def test_training_takes_the_idle_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "threads_beside_others", lambda: 3)
    said: List[str] = []
    with fewer_threads_beside_others(said.append):
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 4
    (line,) = said
    assert "computes with 3 threads instead of 4" in line


@pytest.mark.parametrize("idle", [None, 4, 8])
def test_training_keeps_its_threads(monkeypatch: pytest.MonkeyPatch, idle: int) -> None:
    monkeypatch.setattr(threads, "threads_beside_others", lambda: idle)
    said: List[str] = []
    with fewer_threads_beside_others(said.append):
        assert torch.get_num_threads() == 4
    assert said == []


def test_a_gpu_needs_no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "threads_beside_others", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with fewer_threads_beside_others(pytest.fail):
        assert torch.get_num_threads() == 4


def test_a_training_from_a_config_only_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(threads, "threads_beside_others", lambda: 3)
    hint_at_fewer_threads()
    assert torch.get_num_threads() == 4
    assert "OMP_NUM_THREADS=3 would make training faster" in capsys.readouterr().err
    monkeypatch.setattr(threads, "threads_beside_others", lambda: None)
    hint_at_fewer_threads()
    assert capsys.readouterr().err == ""
