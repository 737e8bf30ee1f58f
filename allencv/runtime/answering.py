"""Many images to answers: threads decode while the network computes."""

from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import (
    Deque,
    Dict,
    Generator,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from allencv.runtime.classifier import Classifier, readable
from allencv.runtime.errors import ImageError
from allencv.runtime.prediction_files import Record
from allencv.runtime.sources import ListedImage
from allencv.runtime.unfinished_run import STAMP, file_stamp

NOT_FINITE = "the network's probabilities for it are not finite numbers"


class Decoded(NamedTuple):
    """An image with the stamp of its file, and its pixels or what is wrong with it."""

    image: ListedImage
    stamp: Optional[List[int]]
    pixels: Union[np.ndarray, str]


def answers(
    classifier: Classifier,
    images: Iterable[ListedImage],
    batch_size: int,
    workers: int,
    top_k: int,
    probabilities: bool,
) -> Iterator[List[Record]]:
    """
    The answers for `images`, `batch_size` at a time and in their order. One that cannot be
    classified has an `error` in place of labels. At most three batches are in memory.

    # Parameters

    workers : the number of threads that decode.
    top_k : how many labels to list for each image.
    probabilities : whether to give the probabilities of all labels.
    """
    decoded = _decoded(classifier, images, workers, ahead=2 * batch_size)
    try:
        while batch := list(islice(decoded, batch_size)):
            yield [
                _record(classifier, each, outcome, top_k, probabilities)
                for each, outcome in zip(batch, _outcomes(classifier, batch))
            ]
    finally:
        decoded.close()


def _decoded(
    classifier: Classifier, images: Iterable[ListedImage], workers: int, ahead: int
) -> Generator[Decoded, None, None]:
    pool = ThreadPoolExecutor(workers)
    waiting: Deque[Future[Decoded]] = deque()
    try:
        for image in images:
            waiting.append(pool.submit(_decode, classifier, image))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(classifier: Classifier, image: ListedImage) -> Decoded:
    stamp = file_stamp(image.file)
    try:
        return Decoded(image, stamp, classifier.preprocess(image.file))
    except ImageError as error:
        return Decoded(image, stamp, str(error))
    except Exception as error:  # of a transform, or for want of memory: the others go on
        return Decoded(image, stamp, f"{image.file}: {type(error).__name__}: {error}")


def _outcomes(classifier: Classifier, batch: Sequence[Decoded]) -> List[Union[np.ndarray, str]]:
    """
    The probabilities of each image, or what is wrong with it. Those of one size are computed
    together, so that none is padded to the size of another.
    """
    outcomes = [each.pixels for each in batch]
    by_shape: Dict[Tuple[int, ...], List[int]] = defaultdict(list)
    for index, pixels in enumerate(outcomes):
        if not isinstance(pixels, str):
            by_shape[pixels.shape].append(index)
    for indices in by_shape.values():
        try:
            rows = classifier.probabilities(np.stack([outcomes[index] for index in indices]))
        except ImageError as error:
            for index in indices:
                outcomes[index] = f"{batch[index].image.file}: {error}"
        else:
            for index, row in zip(indices, rows):
                file = batch[index].image.file
                outcomes[index] = row if np.isfinite(row).all() else f"{file}: {NOT_FINITE}"
    return outcomes


def _record(
    classifier: Classifier,
    decoded: Decoded,
    outcome: Union[np.ndarray, str],
    top_k: int,
    probabilities: bool,
) -> Record:
    record: Record = {"path": decoded.image.name, STAMP: decoded.stamp}
    if isinstance(outcome, str):
        return {**record, "error": outcome}
    record |= readable(classifier, outcome, top_k)
    if probabilities:
        record["probabilities"] = dict(zip(classifier.labels, outcome.tolist()))
    return record
