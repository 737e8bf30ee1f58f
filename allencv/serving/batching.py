import asyncio
import logging
import math
import threading
import time
from collections import defaultdict, deque
from typing import Callable, Deque, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from allencv.runtime import ImageError
from allencv.runtime.classifier import NOT_FINITE, Classifier
from allencv.serving.errors import RequestError, overloaded
from allencv.serving.limits import Limits

logger = logging.getLogger(__name__)

Read = Callable[[bytes], np.ndarray]
"""Turns the bytes of a file into the pixels that the network sees, or raises `RequestError`."""

SLOW_SECONDS = 1.0
"""After this time a worker decodes no further image, and classifies what it has."""

PendingImage = Tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class QueuedImage(NamedTuple):
    file: bytes
    answer: "asyncio.Future[np.ndarray]"


class Batcher:
    """
    Threads that have the images of requests decoded, and classify them. onnxruntime lets go of the
    interpreter while it works, so threads of one process use all cores.

    A thread takes its share of the images that wait, at most `max_batch` of them, decodes one after
    another and classifies them at once. It never waits for a batch to fill: on a CPU that buys
    little and costs each request the wait.

    # Parameters

    classifier : its `probabilities` are called by all threads.
    read : called by all threads.
    limits : `workers`, `max_batch` and `max_waiting`.
    on_batch : called by the threads with the number of images of each batch.
    """

    def __init__(
        self,
        classifier: Classifier,
        read: Read,
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._classifier = classifier
        self._read = read
        self._limits = limits
        self._on_batch = on_batch
        self._waiting: Deque[QueuedImage] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_per_image = 0.05  # a guess, until the first image has been classified
        self._threads = [
            threading.Thread(target=self._work, name=f"classify-{i}", daemon=True)
            for i in range(limits.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """The images that no thread has taken yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self._limits.max_waiting

    @property
    def retry_after(self) -> float:
        """About how many seconds it takes to classify what waits now."""
        return self.waiting * self._seconds_per_image / self._limits.workers

    def submit(self, files: Sequence[bytes]) -> "List[asyncio.Future[np.ndarray]]":
        """
        Queues the images of a request, all or none. Called in the event loop, whose futures it
        returns: each gets the probabilities `(labels,)` or an exception. One that is cancelled
        before its turn is not worked on.

        # Raises

        `RequestError` 429 if there is no room.
        """
        loop = asyncio.get_running_loop()
        jobs = [QueuedImage(file, loop.create_future()) for file in files]
        with self._changed:
            if self._closed or len(self._waiting) + len(jobs) > self._limits.max_waiting:
                raise overloaded(self.retry_after)
            self._waiting.extend(jobs)
            self._changed.notify(len(jobs))
        return [job.answer for job in jobs]

    def close(self, seconds: float) -> bool:
        """
        Waits, for some seconds, until all that waits has been classified and the threads have
        ended. Returns whether they have.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                # A share, so that no thread takes all and leaves the others idle
                share = math.ceil(len(self._waiting) / len(self._threads))
            started = time.perf_counter()
            count = self._classify(min(share, self._limits.max_batch))
            if count:  # another thread may have taken them all
                seconds = (time.perf_counter() - started) / count
                self._seconds_per_image += 0.1 * (seconds - self._seconds_per_image)

    def _classify(self, most: int) -> int:
        """Classifies what waits, up to so many images; gives their number."""
        by_shape: Dict[Tuple[int, ...], List[PendingImage]] = defaultdict(list)
        started = time.perf_counter()
        count = 0
        while count < most and time.perf_counter() - started < SLOW_SECONDS:
            with self._changed:
                if not self._waiting:
                    break
                file, answer = self._waiting.popleft()
            count += 1
            if answer.done():  # the client has gone
                continue
            try:
                pixels = self._read(file)
            except Exception as error:
                _deliver(answer, error)
            else:
                by_shape[pixels.shape].append((pixels, answer))
        for batch in by_shape.values():  # one, but for an archive whose images differ in size
            self._answer(batch)
        return count

    def _answer(self, batch: "List[PendingImage]") -> None:
        self._on_batch(len(batch))
        try:
            rows = self._rows(np.stack([pixels for pixels, _ in batch]))
        except ImageError as error:
            for _, answer in batch:
                _deliver(answer, RequestError(422, "odd_shape", str(error)))
        except Exception:
            if len(batch) > 1:  # the others of the batch get their answers
                for each in batch:
                    self._answer([each])
                return
            logger.exception("The network failed for an image")
            for pixels, answer in batch:
                _deliver(answer, self._why_it_failed(pixels))
        else:
            for (_, answer), row in zip(batch, rows):
                is_finite = bool(np.isfinite(row).all())
                _deliver(answer, row if is_finite else RequestError(422, "not_finite", NOT_FINITE))

    def _rows(self, images: np.ndarray) -> np.ndarray:
        rows = self._classifier.probabilities(images)
        if len(rows) != len(images):
            raise ValueError(f"{len(rows)} rows of probabilities for {len(images)} images")
        return rows

    def _why_it_failed(self, pixels: np.ndarray) -> RequestError:
        """Tells an image that the network cannot take from a network that takes none."""
        try:
            self._rows(np.zeros_like(pixels)[None])
        except Exception:
            return RequestError(
                503, "model_failed", "the model fails; the reason is in the server's log", 10.0
            )
        return RequestError(422, "not_classified", "the model fails for this image, not for others")


def _deliver(answer: "asyncio.Future[np.ndarray]", outcome: "np.ndarray | Exception") -> None:
    """Hands an outcome to the event loop that waits for it."""

    def set_outcome() -> None:
        if answer.done():  # cancelled in the meantime
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    try:
        answer.get_loop().call_soon_threadsafe(set_outcome)
    except RuntimeError:
        logger.warning("An image was classified after the server had stopped")
