from pathlib import Path
from typing import Iterator

import pytest

import allencv.plugin  # noqa: F401
from allencv.experiments import epoch_time
from allencv.experiments.epoch_time import seconds_per_pass, time_epoch
from tests.configs import experiment


def test_an_epoch_is_measured_and_nothing_is_left(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(cats_and_dogs)
    measured = time_epoch(config, 0.1)
    assert 0 < measured.each < 60
    assert 0 < measured.once < 60
    assert not list(tmp_path.iterdir())


class Clock:
    """A clock that only goes on when something is done."""

    def __init__(self) -> None:
        self.now = 100.0
        self.steps = 0

    def perf_counter(self) -> float:
        return self.now

    def step(self, batch: float) -> None:
        """Take a second; the first two steps take ten."""
        self.steps += 1
        self.now += 10 if self.steps <= 2 else batch


class Loader:
    """Batches that take two seconds in all to begin with."""

    def __init__(self, clock: Clock, batches: int) -> None:
        self.clock, self.batches = clock, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[float]:
        self.clock.now += 2
        yield from [1.0] * self.batches


@pytest.mark.parametrize(
    ("batches", "seconds", "steps", "expected"),
    [
        (100, 30, 11, 100),  # steps of one pass: 2 + 2 * 10 + 9 * 1 > 30
        (4, 100, 55, 4 * (53 + 13 * 2) / 53),  # many passes, each with its start
        (1, 1, 3, 1 + 2),  # at least one step that counts
    ],
)
def test_a_pass_is_timed_by_hand(
    batches: int, seconds: float, steps: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(epoch_time, "time", clock)
    found = seconds_per_pass(Loader(clock, batches), clock.step, seconds)
    assert clock.steps == steps
    assert found == pytest.approx(expected)


def test_a_loader_without_batches() -> None:
    assert seconds_per_pass([], lambda batch: None, 1) == 0
