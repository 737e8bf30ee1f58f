"""Turn the images of a config's data into vectors."""

import io
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from allennlp.common import Tqdm

from allencv.data.fields.image_field import Source, load_image
from allencv.data.inspection import CheckedImage, Split, as_picture
from allencv.features.embedding import CachedEncoder, ImageEncoder, Prepared, open_store
from allencv.features.pretrained_backbones import PretrainedBackbone
from allencv.runtime import ImageError
from allencv.runtime.value_ranges import ValueRange

BATCH, AHEAD = 32, 3
"""Images that the network computes at once, and batches that threads decode ahead."""


class DataVectors(NamedTuple):
    """
    The vectors of images.

    # Parameters

    images : those that have a vector. Of images with equal pixels, it is the first.
    vectors : `(images, vector_size)`, in float16 if they are kept in the cache, or else float32.
    errors : the images that the network cannot take, each with the reason.
    plain : the number of images left out, because all their pixels have one colour.
    """

    images: List[CheckedImage]
    vectors: np.ndarray
    errors: List[Tuple[CheckedImage, str]]
    plain: int


def vectors_of_data(
    encoder: ImageEncoder,
    splits: Iterable[Split],
    images: Iterable[CheckedImage],
    workers: int,
    cache: bool = True,
) -> DataVectors:
    """
    Compute the vector of each image that was decoded, or take it from the cache.

    # Parameters

    encoder : `ImageEncoder`, required
    splits : `Iterable[Split]`, required
    images : `Iterable[CheckedImage]`, required
        Their images, from `examine_all`.
    workers : `int`, required
        The number of threads that decode.
    cache : `bool`, optional (default = `True`)
        See `embed`.

    # Raises

    `ConfigurationError` or `OSError` if the cache cannot be read.
    """
    readable = [image for image in images if image.facts.error is None]
    coloured = [image for image in readable if image.facts.colour is None]
    # The first of each group of copies.
    distinct = list({image.facts.pixels: image for image in reversed(coloured)}.values())[::-1]
    cached = CachedEncoder(encoder, open_store(encoder) if cache else None)
    vectors = np.empty((len(distinct), encoder.vector_size), np.float16 if cache else np.float32)
    good: List[CheckedImage] = []
    errors: List[Tuple[CheckedImage, str]] = []
    of_splits = {split.name: split for split in splits}
    with Tqdm.tqdm(total=len(distinct), desc="computing vectors") as progress:
        for batch, outcomes in _batches(
            cached, of_splits, distinct, workers, isinstance(encoder, PretrainedBackbone)
        ):
            for image, outcome in zip(batch, outcomes):
                if isinstance(outcome, str):
                    errors.append((image, outcome))
                else:
                    vectors[len(good)] = outcome
                    good.append(image)
            progress.update(len(batch))
    plain = len(readable) - len(coloured)
    return DataVectors(good, vectors[: len(good)], errors, plain)


def _batches(
    cached: CachedEncoder,
    splits: Dict[str, Split],
    images: Sequence[CheckedImage],
    workers: int,
    is_named: bool,
) -> Iterator[Tuple[Sequence[CheckedImage], List[Union[np.ndarray, str]]]]:
    """
    Yield images with their vectors, or the reasons why they have none. Threads decode ahead. A
    network that `is_named` does not know the reader's range of values; a trained model applies its
    own.
    """

    def prepare(image: CheckedImage) -> Union[Prepared, str]:
        split = splits[image.split]
        try:
            _, source = split.source(image.index)
            return cached.prepare(
                as_content(source, split.reader.value_range if is_named else None)
            )
        except ImageError as error:
            return str(error)

    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(workers) as executor:
        waiting = deque(executor.map(prepare, batch) for batch in batches[:AHEAD])
        for place, batch in enumerate(batches):
            prepared = list(waiting.popleft())
            if place + AHEAD < len(batches):
                waiting.append(executor.map(prepare, batches[place + AHEAD]))
            yield batch, _outcomes(cached, prepared)


def _outcomes(
    cached: CachedEncoder, prepared: Sequence[Union[Prepared, str]]
) -> List[Union[np.ndarray, str]]:
    usable = {place: each for place, each in enumerate(prepared) if not isinstance(each, str)}
    found = cached.vectors(usable)
    return [each if isinstance(each, str) else found[place] for place, each in enumerate(prepared)]


def as_content(source: Source, value_range: Optional[ValueRange]) -> Union[str, bytes]:
    """
    Return the path or the bytes of an image. What is no file, or is read with a range of values,
    is decoded and encoded as PNG, 8 bits a channel. Raise `ImageError`.
    """
    if callable(source) and not isinstance(source, torch.Tensor):
        source = source()
    if value_range is None and isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if value_range is None and isinstance(source, bytes):
        return source
    file = io.BytesIO()
    as_picture(load_image(source, "RGB", value_range=value_range)).save(file, "PNG")
    return file.getvalue()
