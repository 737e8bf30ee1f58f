import io
import re
import time
from typing import Any, Iterator, List

import pytest
import torch
from allennlp.common import Tqdm

from allencv.training.progress import Progress, main_metrics


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
            *args, **{**kwargs, "file": written, "mininterval": 0, "delay": 0, "ncols": 200}
        ),
    )
    return written


def test_the_bar_shows_loss_main_metric_speed_and_waiting(bar: io.StringIO) -> None:
    steps_of_epoch = steps(5, wait=0.03)
    progress = Progress("Epoch 2/3", steps_of_epoch, 5, 0, 0.0, True, ["loss", "accuracy"])
    for _ in progress:
        time.sleep(0.01)
        assert progress.is_due()
        progress.show({"f1": 0.25, "accuracy": 0.75, "batch_loss": 1.0, "loss": 0.5})
    shown = bar.getvalue()
    assert re.search(
        r"Epoch 2/3  80%.*\d\d:\d\d left, loss 0\.500, accuracy 0\.750, \d+ images/s, "
        r"\d\d% waiting for data",
        shown,
    )
    assert "f1" not in shown
    assert 0.5 < progress.waiting_share <= 1
    assert 0 < progress.images_per_second < 4 / 0.03


@pytest.mark.parametrize(("columns", "is_shown"), [(80, False), (120, True)])
def test_what_fits_a_terminal_is_shown(
    bar: io.StringIO, monkeypatch: pytest.MonkeyPatch, columns: int, is_shown: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("allencv.training.progress.are_plain_lines", lambda: False)
    progress = Progress("Epoch 2/3", steps(3, wait=0.01), 3, 0, 0.0, True, ["loss"])
    for _ in progress:
        assert progress.is_due()
        progress.show({"accuracy": 0.75, "loss": 0.5})
    last = bar.getvalue().split("\r")[-3]
    assert ("waiting for data" in last) == is_shown
    assert "loss 0.500, accuracy 0.750, " in last
    assert "|" in last


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (120, "loss 0.500, balanced_accuracy 0.750, 4 images/s"),
        (80, "loss 0.500, balanced_accuracy 0.750"),
        (40, "loss 0.500"),
    ],
)
def test_what_does_not_fit_is_left_out_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int, expected: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("allencv.training.progress.are_plain_lines", lambda: False)
    progress = Progress("Epoch 12/100", steps(1), 1, 0, 0.0, False, ["balanced_accuracy"])
    progress.images_per_second = 4.0
    assert progress._text({"balanced_accuracy": 0.75, "loss": 0.5}) == expected


def test_little_waiting_is_not_mentioned(bar: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allencv.training.progress.WORTH_SAYING", 1.1)
    progress = Progress("Epoch 1/1", steps(3), 3, 0, 0.0, True)
    for _ in progress:
        assert progress.is_due()
        progress.show({"loss": 0.5})
    assert "loss 0.500, " in bar.getvalue()
    assert "waiting" not in bar.getvalue()


@pytest.mark.parametrize(
    ("tracked", "expected"),
    [
        (["loss"], ["accuracy", "f1"]),
        (["f1"], ["f1", "accuracy"]),
        (["recall", "f1"], ["f1", "accuracy"]),
    ],
)
def test_the_main_metrics(tracked: List[str], expected: List[str]) -> None:
    metrics = {
        **{"accuracy": 0.5, "_hidden": 1.0, "f1": 0.5, "confusion": [[1]], "loss": 1.0},
        **{"batch_loss": 1.0, "reg_loss": 0.0},
    }
    assert main_metrics(tracked, metrics) == expected


def test_an_epoch_that_goes_on_in_its_middle(bar: io.StringIO) -> None:
    assert len(list(Progress("Epoch 1/1", steps(3), 8, 5, 1.0, True))) == 3
    shown = bar.getvalue()
    assert "Epoch 1/1  62%, ? left" in shown  # it begins with 5 of 8
    assert "Epoch 1/1 100%, " in shown


def test_an_epoch_of_unknown_length(bar: io.StringIO) -> None:
    assert len(list(Progress("Epoch 1/1", steps(3), None, 0, 1.0, True))) == 3
    assert "Epoch 1/1 3 steps" in bar.getvalue()


def test_without_a_bar(bar: io.StringIO) -> None:
    progress = Progress("", steps(3), 3, 0, interval=0.0, is_shown=False)
    for _ in progress:
        assert progress.is_due()
        progress.show({"loss": 1.0})
    assert bar.getvalue() == ""


def test_it_is_due_once_each_interval() -> None:
    progress = Progress("", steps(6, wait=0.05), 6, 0, interval=0.12, is_shown=False)
    looks = 0
    for _ in progress:
        if progress.is_due():
            looks += 1
            progress.show({})
    assert 1 <= looks <= 3
