from dataclasses import replace
from typing import Optional, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader

from allencv.data.dataset_readers import ImageDatasetReader
from allencv.data.transforms import EvalTransform, Normalize
from allencv.data.transforms.image_transform import registered_name
from allencv.models.pixel_normalization import PixelNormalization
from allencv.runtime import Preprocessing


def preprocessing_of(reader: DatasetReader) -> Tuple[Preprocessing, Optional[PixelNormalization]]:
    """
    Return the preprocessing of a validation reader, and its normalisation, if any. The latter
    becomes part of the network.

    # Raises

    `ConfigurationError` with the name of a transform that cannot be put into a bundle.
    """
    if not isinstance(reader, ImageDatasetReader):
        raise ConfigurationError(
            f"validation_dataset_reader is a {type(reader).__name__}; expected a reader of images"
        )
    if not reader.transforms:
        raise _not_exported("is empty")
    first, *others = reader.transforms
    if type(first) is not EvalTransform:
        raise _not_exported(f"has {registered_name(first)!r}")
    preprocessing = replace(
        first.preprocessing, color_mode=reader.color_mode, value_range=reader.value_range
    )
    normalization = None
    if others and type(others[0]) is Normalize:
        arguments = others.pop(0).arguments
        normalization = PixelNormalization(arguments["mean"], arguments["std"])
    if others:
        raise _not_exported(f"has {registered_name(others[0])!r}")
    return preprocessing, normalization


def _not_exported(found: str) -> ConfigurationError:
    return ConfigurationError(
        f"validation_dataset_reader.transforms {found}, which cannot be put into a bundle; "
        "expected one 'eval', followed at most by a 'normalize'"
    )
