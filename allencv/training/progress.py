import time
from typing import Iterable, Iterator, List, Mapping, Optional

from allennlp.common import Tqdm
from allennlp.data import TensorDict
from allennlp.training.util import description_from_metrics, get_batch_size

SMOOTHING = 0.7
"""The weight of the earlier speed in the speed shown; the last interval has the rest."""


class Progress:
    """
    The steps of an epoch with a progress bar: the metrics, images per second, and the share of time
    spent waiting for data.

    # Parameters

    steps : `Iterable[List[TensorDict]]`
        The batches of each step.
    total, done : `Optional[int]`, `int`
        The number of steps of the epoch, if known, and the number of steps already done.
    interval : `float`
        The seconds between two readings of the metrics.
    is_shown : `bool`
        Whether to show the bar.
    """

    def __init__(
        self,
        steps: Iterable[List[TensorDict]],
        total: Optional[int],
        done: int,
        interval: float,
        is_shown: bool,
    ) -> None:
        self._steps = steps
        self._interval = interval
        self._bar = Tqdm.tqdm(total=total, initial=done) if is_shown else None
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
                yield batches
                self._images += sum(map(get_batch_size, batches))
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
            shown = description_from_metrics(dict(metrics)).removesuffix(" ||")
            self._bar.set_description(
                f"{shown}, {speed:.0f} images/s, {share:.0%} waiting for data", refresh=False
            )
