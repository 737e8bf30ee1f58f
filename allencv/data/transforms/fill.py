from typing import List, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.runtime.plurals import numbered

Fill = Optional[Union[float, List[float]]]

# ImageNet's mean pixel, which normalisation maps to 0.
MEAN_COLOR = (124, 116, 104)
MEAN_GREY = 117


def check_fill(key: str, fill: Fill) -> None:
    """Raise `ConfigurationError` unless `fill` is one number, or one number per channel."""
    values = fill if isinstance(fill, list) else [fill]
    is_number = [isinstance(value, (int, float)) for value in values]
    if fill is not None and not (is_number and all(is_number)):
        raise ConfigurationError(f"{key} is {fill!r}; expected a number, or one per channel")


def fill_values(key: str, fill: Fill, image: torch.Tensor) -> torch.Tensor:
    """
    Return the values for hidden parts of an image `(channels, height, width)`:
    `(1 or channels, 1, 1)`, of the image's type. `None` means ImageNet's mean pixel for `uint8`,
    and 0 for floats, which are taken as normalised.
    """
    channels = image.shape[0]
    if fill is None:
        is_float = image.is_floating_point()
        values = [0.0] if is_float else MEAN_COLOR if channels == 3 else [MEAN_GREY]
    else:
        values = fill if isinstance(fill, list) else [fill]
    if len(values) not in (1, channels):
        raise ConfigurationError(
            f"{key} has {numbered(len(values), 'number')}, but the image has "
            f"{numbered(channels, 'channel')}"
        )
    if image.dtype == torch.uint8 and not all(0 <= value <= 255 for value in values):
        raise ConfigurationError(f"{key} is {fill}; expected 0 to 255 for an image of uint8")
    return torch.tensor(values, dtype=image.dtype).view(-1, 1, 1)
