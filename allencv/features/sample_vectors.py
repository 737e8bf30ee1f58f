"""Turn the images that a dataset reader lists into vectors."""

from typing import Dict, Iterator, List, NamedTuple, Sequence

import numpy as np

from allencv.classify.answers import decoded_batches
from allencv.classify.arguments import ON_GPU
from allencv.classify.progress import ProgressBar
from allencv.data.inspection import Split
from allencv.features.data_vectors import as_content
from allencv.features.embedding import CachedEncoder, ImageEncoder, open_store
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.image_files import ImageFile


class SampleVectors(NamedTuple):
    """
    The vectors of samples.

    # Parameters

    indices : of the samples that have a vector.
    vectors : `(images, vector_size)`, float16 as they are kept in the cache.
    errors : why other samples have none, by their names.
    """

    indices: List[int]
    vectors: np.ndarray
    errors: Dict[str, str]


def sample_vectors(
    encoder: ImageEncoder, split: Split, indices: Sequence[int], show_progress: bool = True
) -> SampleVectors:
    """
    Return the vectors of the samples with these indices in a split, from the cache where it has
    them. Raise `ConfigurationError` or `OSError` if the cache cannot be used.
    """
    cached = CachedEncoder(encoder, open_store(encoder))
    vectors = np.empty((len(indices), encoder.vector_size), np.float16)
    good: List[int] = []
    errors: Dict[str, str] = {}
    progress = ProgressBar(len(indices), is_shown=show_progress)
    files = _files(split, indices, errors)
    for batch in decoded_batches(cached.prepare, files, ON_GPU, cpu_count()):
        for each, outcome in zip(batch, cached.outcomes(batch)):
            if isinstance(outcome, str):
                errors[each.image.file] = outcome
            else:
                vectors[len(good)] = outcome
                good.append(int(each.image.name))
        progress.add(len(batch), len(errors) - progress.failed)
    progress.close()
    return SampleVectors(good, vectors[: len(good)], errors)


def _files(split: Split, indices: Sequence[int], errors: Dict[str, str]) -> Iterator[ImageFile]:
    """
    Yield the images of samples, each named by its index, or add an error. What is in no file of its
    own is read here, one by one.
    """
    for index in indices:
        name = sample_name(split, index)
        try:
            # The model that reads it applies the reader's range of values itself.
            content = as_content(split.source(index)[1], None)
        except ImageError as error:
            errors[name] = str(error)
            continue
        if isinstance(content, str):
            yield ImageFile(str(index), content)
        else:
            yield ImageFile(str(index), name, content)


def sample_name(split: Split, index: int) -> str:
    """Return the path of the image of a sample, or another name from the reader."""
    return str(split.samples.metadata(index)["image"])
