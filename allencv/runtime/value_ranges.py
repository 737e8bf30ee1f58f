"""How images of more than 8 bits a channel become 8 bits, and what that loses of them."""

import math
import warnings
from typing import Any, Dict, Optional, Set, Tuple

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from allencv.runtime.errors import ImageError

ValueRange = Tuple[float, float]
"""The values of an image that become black and white."""

USUAL_RANGES: Dict[str, ValueRange] = {"I": (0, 65535), "F": (0, 255)}
"""The range that is assumed without a `value_range`, by the first letter of pillow's mode."""

FEW = 0.25
"""An image that takes up no more than this share of the assumed range probably has another."""

SAMPLE_FORMAT_TAG, SIGNED = 339, 2

_warned: Set[str] = set()


class ValueRangeWarning(UserWarning):
    """An image loses values when it is turned into 8 bits."""


def checked_range(value: Any) -> Optional[ValueRange]:
    """Returns a `value_range` as a tuple. Raises `ValueError` unless it is one, or `None`."""
    if value is None:
        return None
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    is_range = len(numbers) == 2 and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) and math.isfinite(each)
        for each in numbers
    )
    if not is_range or numbers[0] >= numbers[1]:
        raise ValueError(f"value_range is {value!r}; expected two numbers, [black, white]")
    return numbers[0], numbers[1]


def is_deep_grey(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def is_deep_colour(image: Image.Image) -> bool:
    """
    Whether a file has several channels of 16 bits. Pillow reads the upper 8. Only an image that is
    not decoded yet can tell.
    """
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in str(tile[3]) for tile in tiles)


def with_signed_bytes(image: Image.Image, value_range: Optional[ValueRange]) -> Image.Image:
    """
    Corrects a TIFF file of signed bytes, which pillow reads as unsigned ones: without a
    `value_range` -128 becomes black and 127 white. Returns any other image as it is.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "L":
        return image
    if SIGNED not in image.tag_v2.get(SAMPLE_FORMAT_TAG, ()):
        return image
    values = np.asarray(image).view(np.int8).astype(np.int32)
    return Image.fromarray((values + 128).astype(np.uint8) if value_range is None else values)


def to_8_bits(image: Image.Image, value_range: Optional[ValueRange]) -> Image.Image:
    """
    An image of one deep channel as "L". With a `value_range` its values are mapped linearly, the
    first to 0 and the second to 255. Without one, integers keep the upper 8 of 16 bits, and floats
    are rounded. Values outside of the range are clipped. NaN becomes black.
    """
    values = np.asarray(image)
    if value_range is not None:
        low, high = value_range
        values = (values.astype(np.float64) - low) * (255 / (high - low))
    elif image.mode != "F":
        return Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    rounded = np.rint(np.nan_to_num(values, nan=0, posinf=255, neginf=0))
    return Image.fromarray(np.clip(rounded, 0, 255).astype(np.uint8))


def what_is_lost(
    image: Image.Image, deep_colour: bool, value_range: Optional[ValueRange]
) -> Optional[str]:
    """
    Says what 8 bits cannot hold of a decoded image, or `None`. A `value_range` that somebody chose
    loses only values that are not numbers.
    """
    if deep_colour:
        colours = np.asarray(image)[..., :3]
        span = int(colours.max()) - int(colours.min())
        if span > FEW * 255:
            return None
        return (
            f"16-bit colour, whose upper 8 bits hold no more than {span + 1} levels: convert it to "
            "8 bits"
        )
    if not is_deep_grey(image):
        return None
    values = np.asarray(image)
    kind = "floating point" if image.mode == "F" else "more than 8 bits"
    if np.isnan(values).any():
        return f"{kind}, with values that are not numbers (NaN), which become black"
    if value_range is not None:
        return None
    least, most = values.min().item(), values.max().item()
    low, high = USUAL_RANGES[image.mode[0]]
    is_flat = 0 < most - least <= FEW * (high - low)
    if low <= least and most <= high and not is_flat:
        return None
    return (
        f"{kind}, with values from {least:g} to {most:g} where {low} to {high} is expected; set "
        f"dataset_reader.value_range, such as {_suggested(least, most)}"
    )


def _suggested(least: float, most: float) -> str:
    if not (math.isfinite(least) and math.isfinite(most)):
        return "[0, 1]"
    if least >= 0 and most <= 1:
        return "[0, 1]"
    if isinstance(most, int) and least >= 0:
        return f"[0, {2 ** most.bit_length() - 1}]"
    return f"[{least:g}, {most:g}]"


def warn_of_loss(name: str, lost: str) -> None:
    """Warns of the first image of each kind; `lost` is what `what_is_lost` said."""
    kind = lost.partition(",")[0]
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(
            f"{name}: {lost}. Others like it are not reported; check-data lists them all.",
            ValueRangeWarning,
            stacklevel=2,
        )


def check_range_applies(deep_colour: bool, value_range: Optional[ValueRange]) -> None:
    """Raises `ImageError` for a file whose values are lost before the range could be applied."""
    if deep_colour and value_range is not None:
        raise ImageError(
            f"16-bit colour, of which pillow reads the upper 8 bits; value_range "
            f"{list(value_range)} cannot be applied: convert the file to 8 bits"
        )
