"""Classify many images: threads decode while the network computes."""

from collections import deque
from concurrent.futures import Future
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Thread
from typing import (
    Callable,
    Deque,
    Generator,
    Generic,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

import numpy as np

from allencv.classify.output_files import Record
from allencv.classify.partial_output import file_stamp
from allencv.runtime.certainty import Judgement
from allencv.runtime.classifier import Classifier, classify_pixels, readable
from allencv.runtime.errors import ImageError, InputError
from allencv.runtime.image_files import ImageFile
from allencv.runtime.images import ImageSource, name_of

READING_SECONDS = 120.0
"""How long to wait for an image; a drive may stop responding."""


T = TypeVar("T")
Decode = Callable[[ImageFile], T]
"""Reads and prepares an image. Raises `ImageError` if it cannot."""


class DecodedImage(NamedTuple, Generic[T]):
    """An image with the stamp of its file, and its content or an error message."""

    image: ImageFile
    stamp: Optional[List[int]]
    content: Union[T, str]


class DecodingJob(NamedTuple, Generic[T]):
    """An image for a thread to decode, and the result."""

    image: ImageFile
    decoded: "Future[DecodedImage[T]]"


DecodingJobs = SimpleQueue[Optional[DecodingJob[T]]]
"""The queue of the threads. `None` ends one of them."""


def answers(
    classifier: Classifier,
    images: Iterable[ImageFile],
    batch_size: int,
    workers: int,
    top_k: int,
    probabilities: bool,
) -> Iterator[List[Record]]:
    """
    Yield the answers for `images` in order, `batch_size` at a time. An image that cannot be
    classified gets an `error` in place of labels. At most three batches are in memory.

    # Parameters

    workers : the number of threads that decode.
    top_k : the number of labels to list for each image.
    probabilities : whether to add the probabilities of all labels.
    """
    decode = partial(_preprocessed, classifier)
    for batch in decoded_batches(decode, images, batch_size, workers):
        yield [
            _record(classifier, each, outcome, top_k, probabilities)
            for each, outcome in zip(batch, _outcomes(classifier, batch))
        ]


def decoded_batches(
    decode: Decode[T], images: Iterable[ImageFile], batch_size: int, workers: int
) -> Iterator[List[DecodedImage[T]]]:
    """
    Yield `images` in order, `batch_size` at a time, which threads decode ahead. At most three
    batches are in memory.
    """
    decoded = _decoded(decode, images, workers, ahead=2 * batch_size)
    try:
        while batch := list(islice(decoded, batch_size)):
            yield batch
    finally:
        decoded.close()


def _decoded(
    decode: Decode[T], images: Iterable[ImageFile], workers: int, ahead: int
) -> Generator[DecodedImage[T], None, None]:
    jobs: DecodingJobs[T] = SimpleQueue()
    # Daemons, so that the process can end while one of them waits for a file.
    threads = [Thread(target=_work, args=(decode, jobs), daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    waiting: Deque[DecodingJob[T]] = deque()
    num_late = 0
    try:
        for job in _in_order(images, jobs, waiting, ahead):
            try:
                decoded = job.decoded.result(READING_SECONDS)
            except TimeoutError:
                reason = f"{job.image.file}: not read within {READING_SECONDS:g} seconds"
                num_late += 1
                if num_late == workers:
                    raise InputError(f"{reason}; expected files on a drive that answers") from None
                decoded = DecodedImage(job.image, None, reason)
            yield decoded
    finally:
        for job in waiting:
            job.decoded.cancel()
        for _ in threads:
            jobs.put(None)


def _in_order(
    images: Iterable[ImageFile],
    jobs: DecodingJobs[T],
    waiting: Deque[DecodingJob[T]],
    ahead: int,
) -> Iterator[DecodingJob[T]]:
    """Give jobs to the threads, up to `ahead` of the one that is due; `waiting` holds these."""
    for image in images:
        job: DecodingJob[T] = DecodingJob(image, Future())
        jobs.put(job)
        waiting.append(job)
        if len(waiting) > ahead:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def _work(decode: Decode[T], jobs: DecodingJobs[T]) -> None:
    for job in iter(jobs.get, None):
        if job.decoded.set_running_or_notify_cancel():
            job.decoded.set_result(_decode(decode, job.image))


def _decode(decode: Decode[T], image: ImageFile) -> DecodedImage[T]:
    stamp = file_stamp(image.file)
    try:
        return DecodedImage(image, stamp, decode(image))
    except ImageError as error:
        return DecodedImage(image, stamp, str(error))
    except Exception as error:  # from a transform, or out of memory: continue with other images
        return DecodedImage(image, stamp, f"{image.file}: {type(error).__name__}: {error}")


def _preprocessed(classifier: Classifier, image: ImageFile) -> np.ndarray:
    if image.content is None:
        return classifier.preprocess(image.file)
    try:
        return classifier.preprocess(image.content)
    except ImageError as error:
        raise ImageError(renamed(error, image.content, image.file)) from None


def renamed(error: ImageError, source: ImageSource, name: str) -> str:
    """Return the message of the error of an image that has a name."""
    return f"{name}: {str(error).removeprefix(f'{name_of(source)}: ')}"


def _outcomes(
    classifier: Classifier, batch: Sequence[DecodedImage[np.ndarray]]
) -> List[Union[Judgement, str]]:
    """Return what is known about each image, or an error message."""
    contents = [each.content for each in batch]
    arrays = {i: pixels for i, pixels in enumerate(contents) if not isinstance(pixels, str)}
    found = classify_pixels(classifier, arrays)
    outcomes: List[Union[Judgement, str]] = []
    for i, content in enumerate(contents):
        outcome = content if isinstance(content, str) else found[i]
        is_error = isinstance(outcome, str) and not isinstance(content, str)
        outcomes.append(f"{batch[i].image.file}: {outcome}" if is_error else outcome)
    return outcomes


def _record(
    classifier: Classifier,
    decoded: DecodedImage[np.ndarray],
    outcome: Union[Judgement, str],
    top_k: int,
    probabilities: bool,
) -> Record:
    record: Record = {"path": decoded.image.name, "stamp": decoded.stamp}
    if isinstance(outcome, str):
        return {**record, "error": outcome}
    record = {**record, **readable(classifier, outcome, top_k)}
    if probabilities:
        record["probabilities"] = dict(zip(classifier.labels, outcome.probabilities.tolist()))
    return record
