import io
import time
from typing import Any, Iterator, List

import pytest
import torch
from allennlp.common import Tqdm

from allencv.training.progress import Progress


def steps(count: int, wait: float = 0.0) -> Iterator[List[Any]]:
    for _ in range(count):
        time.sleep(wait)
        yield [{"image": torch.zeros(4, 3, 2, 2)}]


@pytest.fixture
def bar(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    tqdm = Tqdm.tqdm
    monkeypatch.setattr(
        Tqdm,
        "tqdm",
        lambda *args, **kwargs: tqdm(
            *args, **{**kwargs, "file": written, "mininterval": 0, "ncols": 200}
        ),
    )
    return written


def test_the_bar_shows_metrics_speed_and_waiting(bar: io.StringIO) -> None:
    progress = Progress(steps(5, wait=0.03), 5, 0, interval=0.0, is_shown=True)
    for _ in progress:
        time.sleep(0.01)
        assert progress.is_due()
        progress.show({"accuracy": 0.75, "_hidden": 1.0, "loss": 0.5})
    shown = bar.getvalue()
    assert "accuracy: 0.7500, loss: 0.5000, " in shown
    assert "images/s, " in shown
    assert "waiting for data" in shown
    assert "5/5" in shown
    assert "hidden" not in shown
    assert 0.5 < progress.waiting_share <= 1
    assert 0 < progress.images_per_second < 4 / 0.03


def test_an_epoch_that_goes_on_in_its_middle(bar: io.StringIO) -> None:
    assert len(list(Progress(steps(3), 8, 5, 1.0, True))) == 3
    assert "8/8" in bar.getvalue()


def test_an_epoch_of_unknown_length(bar: io.StringIO) -> None:
    assert len(list(Progress(steps(3), None, 0, 1.0, True))) == 3
    assert "3it" in bar.getvalue()


def test_without_a_bar(bar: io.StringIO) -> None:
    progress = Progress(steps(3), 3, 0, interval=0.0, is_shown=False)
    for _ in progress:
        assert progress.is_due()
        progress.show({"loss": 1.0})
    assert bar.getvalue() == ""


def test_it_is_due_once_each_interval() -> None:
    progress = Progress(steps(6, wait=0.05), 6, 0, interval=0.12, is_shown=False)
    looks = 0
    for _ in progress:
        if progress.is_due():
            looks += 1
            progress.show({})
    assert 1 <= looks <= 3
