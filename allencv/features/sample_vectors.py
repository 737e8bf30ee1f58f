"""Turn the images that a dataset reader lists into vectors."""

import io
import os
from typing import Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch

from allencv.data.fields.image_field import Source, load_image
from allencv.data.inspection import Split, as_picture
from allencv.features.embedding import ImageEncoder, image_vectors
from allencv.features.pretrained_backbones import PretrainedBackbone
from allencv.runtime.image_files import ImageFile
from allencv.runtime.value_ranges import ValueRange


class SampleVectors(NamedTuple):
    """
    The vectors of samples.

    # Parameters

    indices : of the samples that have a vector.
    vectors : `(images, vector_size)`, in float16 if they are kept in the cache, or else float32.
    errors : why other samples have none, by their indices.
    """

    indices: List[int]
    vectors: np.ndarray
    errors: Dict[int, str]


def sample_vectors(
    encoder: ImageEncoder,
    split: Split,
    indices: Sequence[int],
    cache: bool = True,
    show_progress: bool = True,
) -> SampleVectors:
    """
    Return the vectors of the samples with these indices in a split, from the cache where it has
    them. Raise `ConfigurationError` or `OSError` if the cache cannot be used.
    """
    # A trained model that reads the image applies the range of values itself.
    is_named = isinstance(encoder, PretrainedBackbone)
    value_range = split.reader.value_range if is_named else None

    def source_of(image: ImageFile) -> Union[str, bytes]:
        return as_content(split.source(int(image.name))[1], value_range)

    images = [ImageFile(str(index), sample_name(split, index)) for index in indices]
    found = image_vectors(
        encoder, images, cache=cache, show_progress=show_progress, source_of=source_of
    )
    return SampleVectors(
        [int(image.name) for image in found.images],
        found.vectors,
        {int(name): reason for name, reason in found.errors.items()},
    )


def sample_name(split: Split, index: int) -> str:
    """Return the path of the image of a sample, or another name from the reader."""
    return str(split.samples.metadata(index)["image"])


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
