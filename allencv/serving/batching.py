import asyncio
import logging
import math
import threading
import time
from collections import deque
from typing import Callable, Deque, List, NamedTuple, Optional, Sequence

import numpy as np

from allencv.runtime import ImageError
from allencv.runtime.certainty import Judgement
from allencv.runtime.classifier import NOT_FINITE, Classifier, group_by_shape, judged
from allencv.serving.errors import RequestError, overloaded
from allencv.serving.limits import Limits

logger = logging.getLogger(__name__)

Read = Callable[[bytes], np.ndarray]
"""Decodes the bytes of a file to pixels for the network, or raises `RequestError`."""

SLOW_SECONDS = 1.0
"""After this time, a worker no longer waits for more images to be decoded."""


class QueuedImage(NamedTuple):
    file: bytes
    answer: "asyncio.Future[Judgement]"


class DecodedImage(NamedTuple):
    pixels: np.ndarray
    answer: "asyncio.Future[Judgement]"
    began: float
    """When its decoding began, by `time.monotonic`."""


class Batcher:
    """
    Threads that classify the images of requests. onnxruntime releases the GIL, so threads of one
    process use all cores.

    Half of the threads have images decoded, and half are workers that classify. A worker takes its
    share of the waiting images in one batch, at most `max_batch`, as soon as they are decoded.
    Meanwhile the next images are decoded, so that no core is idle. A worker never waits for a batch
    to fill: on a CPU that gains little and delays each request.

    # Parameters

    classifier : all workers call its `probabilities`.
    read : called by all threads that decode.
    limits : `workers`, `max_batch` and `max_waiting`.
    on_batch : called by the workers with the number of images of each batch.
    on_answer : called by the workers with each answer that is finite.
    """

    def __init__(
        self,
        classifier: Classifier,
        read: Read,
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
        on_answer: Callable[[Judgement], None] = lambda judgement: None,
    ) -> None:
        self._classifier = classifier
        self._read = read
        self._limits = limits
        self._on_batch = on_batch
        self._on_answer = on_answer
        self._queued: Deque[QueuedImage] = deque()
        self._decoding = 0
        self._decoded: Deque[DecodedImage] = deque()
        lock = threading.Lock()
        self._may_decode = threading.Condition(lock)
        self._may_classify = threading.Condition(lock)
        self._closed = False
        self._decode_seconds = 0.0
        self._classify_seconds = 0.05  # a guess, until the first image has been classified
        self._threads = [
            threading.Thread(target=work, name=f"{name}-{i}", daemon=True)
            for name, work in (("decode", self._decode), ("classify", self._classify))
            for i in range(limits.workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """The number of images that no worker has taken."""
        return len(self._queued) + self._decoding + len(self._decoded)

    @property
    def is_full(self) -> bool:
        return self.waiting >= self._limits.max_waiting

    @property
    def retry_after(self) -> float:
        """Estimate the time to classify the waiting images, in seconds."""
        seconds = self._decode_seconds + self._classify_seconds
        return self.waiting * seconds / self._limits.workers

    def submit(self, files: Sequence[bytes]) -> "List[asyncio.Future[Judgement]]":
        """
        Queue the images of a request, all or none. Call this in the event loop. Return a future for
        each image, with what is known about it or an exception. Images whose future is
        cancelled are skipped.

        # Raises

        `RequestError` 429 if the queue is full.
        """
        loop = asyncio.get_running_loop()
        jobs = [QueuedImage(file, loop.create_future()) for file in files]
        with self._may_decode:
            if self._closed or self.waiting + len(jobs) > self._limits.max_waiting:
                raise overloaded(self.retry_after)
            self._queued.extend(jobs)
            self._may_decode.notify(len(jobs))
        return [job.answer for job in jobs]

    def close(self, seconds: float) -> bool:
        """
        Wait up to `seconds` until the waiting images are classified and the threads have ended.
        Return whether they have.
        """
        with self._may_decode:
            self._closed = True
            self._may_decode.notify_all()
            self._may_classify.notify_all()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _decode(self) -> None:
        """Have images decoded, one after another, until a batch for each worker is ready."""
        ready = self._limits.workers * self._limits.max_batch
        while True:
            with self._may_decode:
                while not self._queued or self._decoding + len(self._decoded) >= ready:
                    if self._closed and not self._queued:
                        return
                    self._may_decode.wait()
                file, answer = self._queued.popleft()
                self._decoding += 1
            began, pixels = time.monotonic(), None
            if not answer.done():  # otherwise the client has gone
                try:
                    pixels = self._read(file)
                except Exception as error:
                    _deliver(answer, error)
            with self._may_classify:
                self._decoding -= 1
                if pixels is not None:
                    self._decoded.append(DecodedImage(pixels, answer, began))
                    self._decode_seconds += 0.1 * (time.monotonic() - began - self._decode_seconds)
                self._may_classify.notify()

    def _classify(self) -> None:
        """Classify decoded images in batches."""
        while taken := self._take():
            started = time.monotonic()
            pending = {i: each for i, each in enumerate(taken) if not each.answer.done()}
            for batch in group_by_shape({i: each.pixels for i, each in pending.items()}):
                # Usually one; several if image sizes differ
                self._answer([pending[i] for i in batch])
            seconds = (time.monotonic() - started) / len(taken)
            self._classify_seconds += 0.1 * (seconds - self._classify_seconds)

    def _take(self) -> List[DecodedImage]:
        """Wait for images and take a share of them; none when all are classified at the end."""
        with self._may_classify:
            while self.waiting or not self._closed:
                # A share, so that no worker takes all images while others are idle
                share = min(math.ceil(self.waiting / self._limits.workers), self._limits.max_batch)
                patience: Optional[float] = None
                if self._decoded:
                    patience = self._decoded[0].began + SLOW_SECONDS - time.monotonic()
                    if len(self._decoded) >= share or patience <= 0:
                        count = min(share, len(self._decoded))
                        taken = [self._decoded.popleft() for _ in range(count)]
                        self._may_decode.notify(count)
                        if self._decoded:
                            self._may_classify.notify()
                        return taken
                self._may_classify.wait(patience)
            self._may_classify.notify_all()  # the other workers end too
            return []

    def _answer(self, batch: List[DecodedImage]) -> None:
        self._on_batch(len(batch))
        try:
            rows = self._rows(np.stack([each.pixels for each in batch]))
        except ImageError as error:
            for each in batch:
                _deliver(each.answer, RequestError(422, "odd_shape", str(error)))
        except Exception:
            if len(batch) > 1:  # only the image at fault should fail
                for each in batch:
                    self._answer([each])
                return
            logger.exception("The network failed for an image")
            for each in batch:
                _deliver(each.answer, self._why_it_failed(each.pixels))
        else:
            for each, row in zip(batch, rows):
                is_finite = bool(np.isfinite(row.probabilities).all())
                if is_finite:
                    self._on_answer(row)
                outcome = row if is_finite else RequestError(422, "not_finite", NOT_FINITE)
                _deliver(each.answer, outcome)

    def _rows(self, images: np.ndarray) -> List[Judgement]:
        rows = judged(self._classifier, images)
        if len(rows) != len(images):
            raise ValueError(f"{len(rows)} answers for {len(images)} images")
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


def _deliver(answer: "asyncio.Future[Judgement]", outcome: "Judgement | Exception") -> None:
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
