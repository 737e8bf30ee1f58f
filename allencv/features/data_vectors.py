"""Turn the images of a config's data into vectors."""

from typing import Iterable, List, NamedTuple, Tuple

import numpy as np

from allencv.data.inspection import CheckedImage, Split
from allencv.features.embedding import ImageEncoder
from allencv.features.sample_vectors import sample_vectors


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
    cache: bool = True,
) -> DataVectors:
    """
    Compute the vector of each image that was decoded, or take it from the cache.

    # Parameters

    encoder : `ImageEncoder`, required
    splits : `Iterable[Split]`, required
    images : `Iterable[CheckedImage]`, required
        Their images, from `examine_all`.
    cache : `bool`, optional (default = `True`)
        See `embed`.

    # Raises

    `ConfigurationError` or `OSError` if the cache cannot be read.
    """
    readable = [image for image in images if image.facts.error is None]
    coloured = [image for image in readable if image.facts.colour is None]
    # The first of each group of copies.
    distinct = {image.facts.pixels: image for image in reversed(coloured)}
    good: List[CheckedImage] = []
    vectors = [np.empty((0, encoder.vector_size), np.float16 if cache else np.float32)]
    errors: List[Tuple[CheckedImage, str]] = []
    for split in splits:
        of_split = {each.index: each for each in distinct.values() if each.split == split.name}
        found = sample_vectors(encoder, split, sorted(of_split), cache)
        good += [of_split[index] for index in found.indices]
        vectors.append(found.vectors)
        errors += [(of_split[index], reason) for index, reason in found.errors.items()]
    return DataVectors(good, np.concatenate(vectors), errors, len(readable) - len(coloured))
