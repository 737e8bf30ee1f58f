import asyncio
import logging
import math
import threading
import time
from collections import deque
from typing import Callable, Deque, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from allencv.runtime import ImageError
from allencv.runtime.classifier import NOT_FINITE, Classifier, group_by_shape
from allencv.serving.errors import RequestError, overloaded
from allencv.serving.limits import Limits

logger = logging.getLogger(__name__)

Read = Callable[[bytes], np.ndarray]
"""Decodes the bytes of a file to pixels for the network, or raises `RequestError`."""

SLOW_SECONDS = 1.0
"""After this time, a worker stops decoding and classifies the images it has."""

PendingImage = Tuple[np.ndarray, "asyncio.Future[np.ndarray]"]


class QueuedImage(NamedTuple):
    file: bytes
    answer: "asyncio.Future[np.ndarray]"


class Batcher:
    """
    Threads that classify the images of requests. onnxruntime releases the GIL, so threads of one
    process use all cores.

    A thread takes its share of the waiting images, at most `max_batch`, has them decoded one by one
    and classifies them in one batch. It never waits for a batch to fill: on a CPU that gains little
    and delays each request.

    # Parameters

    classifier : all threads call its `probabilities`.
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
        """The number of images not yet taken."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self._limits.max_waiting

    @property
    def retry_after(self) -> float:
        """Estimate the time to classify the waiting images, in seconds."""
        return self.waiting * self._seconds_per_image / self._limits.workers

    def submit(self, files: Sequence[bytes]) -> "List[asyncio.Future[np.ndarray]]":
        """
        Queue the images of a request, all or none. Call this in the event loop. Return a future for
        each image, with the probabilities `(labels,)` or an exception. Images whose future is
        cancelled are skipped.

        # Raises

        `RequestError` 429 if the queue is full.
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
        Wait up to `seconds` until the waiting images are classified and the threads have ended.
        Return whether they have.
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
                # A share, so that no thread takes all images while others are idle
                share = math.ceil(len(self._waiting) / len(self._threads))
            started = time.perf_counter()
            count = self._classify(min(share, self._limits.max_batch))
            if count:  # another thread may have taken them all
                seconds = (time.perf_counter() - started) / count
                self._seconds_per_image += 0.1 * (seconds - self._seconds_per_image)

    def _classify(self, most: int) -> int:
        """Classify at most `most` waiting images. Return their number."""
        pending: Dict[int, PendingImage] = {}
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
                pending[count] = pixels, answer
        shapes = group_by_shape({number: pixels for number, (pixels, _) in pending.items()})
        for batch in shapes:  # usually one; several if image sizes differ
            self._answer([pending[number] for number in batch])
        return count

    def _answer(self, batch: "List[PendingImage]") -> None:
        self._on_batch(len(batch))
        try:
            rows = self._rows(np.stack([pixels for pixels, _ in batch]))
        except ImageError as error:
            for _, answer in batch:
                _deliver(answer, RequestError(422, "odd_shape", str(error)))
        except Exception:
            if len(batch) > 1:  # only the image at fault should fail
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
        """Return whether the image or the model is at fault, as an error."""
        try:
            self._rows(np.zeros_like(pixels)[None])
        except Exception:
            return RequestError(
                503, "model_failed", "the model fails; the reason is in the server's log", 10.0
            )
        return RequestError(422, "not_classified", "the model fails for this image, not for others")


def _deliver(answer: "asyncio.Future[np.ndarray]", outcome: "np.ndarray | Exception") -> None:
    """Pass an outcome to the event loop that waits for it."""

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
