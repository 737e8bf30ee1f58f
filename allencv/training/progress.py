import shutil
import time
from typing import Iterable, Iterator, List, Mapping, Optional, Sequence

from allennlp.common import Tqdm
from allennlp.data import TensorDict
from allennlp.training.util import get_batch_size

from allencv.common.progress_bars import are_plain_lines

SMOOTHING = 0.7
"""The weight of the earlier speed in the speed shown; the last interval has the rest."""
WORTH_SAYING = 0.1
"""The share of time spent waiting for data that is shown."""
FORMAT = "{desc} {percentage:3.0f}% |{bar}| {remaining} left{postfix}"
FORMAT_OF_LINES = "{desc} {percentage:3.0f}%, {remaining} left{postfix}"
FORMAT_WITHOUT_TOTAL = "{desc} {n_fmt} steps{postfix}"
COLUMNS_OF_REST = 25
"""The columns of the percentage, the remaining time, and a bar of a few cells."""


class Progress:
    """
    The steps of an epoch with a progress bar: the loss and the main metric, images per second, the
    remaining time, and the share of time spent waiting for data if it is large.

    # Parameters

    title : `str`
        What the bar is of.
    steps : `Iterable[List[TensorDict]]`
        The batches of each step.
    total, done : `Optional[int]`, `int`
        The number of steps of the epoch, if known, and the number of steps already done.
    interval : `float`
        The seconds between two readings of the metrics.
    is_shown : `bool`
        Whether to show the bar.
    main_metrics : `Sequence[str]`, optional
        The metrics that choose the best epoch.
    """

    def __init__(
        self,
        title: str,
        steps: Iterable[List[TensorDict]],
        total: Optional[int],
        done: int,
        interval: float,
        is_shown: bool,
        main_metrics: Sequence[str] = (),
    ) -> None:
        self._title = title
        self._steps = steps
        self._interval = interval
        self._main_metrics = main_metrics
        format = FORMAT_OF_LINES if are_plain_lines() else FORMAT
        if total is None:
            format = FORMAT_WITHOUT_TOTAL
        self._bar = None
        if is_shown:
            self._bar = Tqdm.tqdm(desc=title, total=total, initial=done, bar_format=format)
        self._last_look = self._now = time.perf_counter()
        self._images = 0
        self._waited = 0.0
        self.images_per_second = 0.0
        self.waiting_share = 0.0

    def __iter__(self) -> Iterator[List[TensorDict]]:
        steps = iter(self._steps)
        try:
            while True:
                started = time.perf_counter()
                batches = next(steps, None)
                if batches is None:
                    return
                self._waited += time.perf_counter() - started
                self._images += sum(map(get_batch_size, batches))
                yield batches
                if self._bar is not None:
                    self._bar.update()
        finally:
            if self._bar is not None:
                self._bar.close()

    def is_due(self) -> bool:
        """Return whether it is time to read the metrics."""
        self._now = time.perf_counter()
        return self._now - self._last_look >= self._interval

    def show(self, metrics: Mapping[str, float]) -> None:
        seconds = max(self._now - self._last_look, 1e-9)
        speed, share = self._images / seconds, self._waited / seconds
        if self.images_per_second:
            speed = SMOOTHING * self.images_per_second + (1 - SMOOTHING) * speed
            share = SMOOTHING * self.waiting_share + (1 - SMOOTHING) * share
        self.images_per_second, self.waiting_share = speed, share
        self._last_look, self._images, self._waited = self._now, 0, 0.0
        if self._bar is not None:
            self._bar.set_postfix_str(self._text(metrics), refresh=False)

    def _text(self, metrics: Mapping[str, float]) -> str:
        names = ["loss"] if "loss" in metrics else []
        names += main_metrics(self._main_metrics, metrics)[:1]
        texts = [f"{name} {metrics[name]:.3f}" for name in names]
        texts.append(f"{self.images_per_second:.0f} images/s")
        if self.waiting_share >= WORTH_SAYING:
            texts.append(f"{self.waiting_share:.0%} waiting for data")
        room = shutil.get_terminal_size().columns - len(self._title) - COLUMNS_OF_REST
        while not are_plain_lines() and len(texts) > 1 and len(", ".join(texts)) > room:
            texts.pop()  # the last matters least
        return ", ".join(texts)


def main_metrics(tracked: Sequence[str], metrics: Mapping[str, object]) -> List[str]:
    """
    Return the metrics to follow besides the loss, the most important first: the `tracked` ones,
    which choose the best epoch, and then the others. `metrics` has all by name.
    """
    names = [name for name in tracked if name in metrics]
    names += [
        name
        for name, value in metrics.items()
        if isinstance(value, float) and not name.startswith("_") and name not in names
    ]
    return [name for name in names if name not in ("loss", *SAID_ELSEWHERE)]


SAID_ELSEWHERE = ("batch_loss", "reg_loss", "batch_reg_loss")
"""Metrics that are parts of the loss."""
