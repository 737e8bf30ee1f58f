"""Convert images of more than 8 bits per channel to 8 bits, and detect lost values."""

import math
import reprlib
import warnings
from typing import Dict, Optional, Set, Tuple

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from allencv.runtime.errors import UnsupportedImageError

ValueRange = Tuple[float, float]
"""The values of an image that become black and white."""

USUAL_RANGES: Dict[str, ValueRange] = {"I": (0, 65535), "F": (0, 255)}
"""The default value range, by the first letter of pillow's mode."""

FEW = 0.25
"""An image that uses at most this share of the default range probably has another range."""

BITS_TAG, PHOTOMETRIC_TAG, SAMPLE_FORMAT_TAG = 258, 262, 339
MIN_IS_WHITE = 0
UNSIGNED, SIGNED = 1, 2

COLOUR_CHANNELS = {"LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}
"""Pillow's modes for 16-bit files of several channels, with their numbers of colour channels."""

_warned: Set[str] = set()


class ValueRangeWarning(UserWarning):
    """An image loses values when it is converted to 8 bits."""


def checked_range(value: object) -> Optional[ValueRange]:
    """Return a `value_range` as a tuple, or `None`. Raise `ValueError` for anything else."""
    if value is None:
        return None
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    is_pair = len(numbers) == 2 and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers
    )
    if not is_pair or not _can_be_mapped(*numbers):
        raise ValueError(
            f"value_range is {reprlib.repr(value)}; expected two numbers, [black, white]"
        )
    return numbers[0], numbers[1]


def _can_be_mapped(low: float, high: float) -> bool:
    """Return whether floats can map `low` to 0 and `high` to 255."""
    try:
        width = float(high) - float(low)
    except OverflowError:  # an integer larger than any float
        return False
    return 0 < width < math.inf and 255 / width < math.inf


def is_deep_grey(image: Image.Image) -> bool:
    """Return whether an image has one channel of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def is_deep_colour(image: Image.Image) -> bool:
    """
    Return whether a file has several channels of 16 bits. Pillow reads the upper 8. The image must
    not be decoded yet.
    """
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in COLOUR_CHANNELS and any(";16" in str(tile[3]) for tile in tiles)


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """Return the first value of a tag, or the default if the image is not TIFF."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return default
    value = image.tag_v2.get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _is_signed_bytes(image: Image.Image) -> bool:
    return image.mode == "L" and _tiff_tag(image, SAMPLE_FORMAT_TAG, UNSIGNED) == SIGNED


def _stored_values(image: Image.Image) -> np.ndarray:
    """
    Return the values of the only channel as stored in the file. Pillow reads a TIFF file's signed
    bytes as unsigned, and unsigned 32-bit integers as signed.
    """
    values = np.asarray(image)
    if _is_signed_bytes(image):
        return values.view(np.int8)
    is_unsigned = _tiff_tag(image, SAMPLE_FORMAT_TAG, UNSIGNED) == UNSIGNED
    if image.mode == "I" and is_unsigned and _tiff_tag(image, BITS_TAG, 0) == 32:
        return values.view(np.uint32)
    return values


def to_8_bits(image: Image.Image, value_range: Optional[ValueRange]) -> Image.Image:
    """
    Convert an image of one deep channel, or of signed bytes, to "L". Return any other image
    unchanged. With a `value_range`, values are mapped linearly, the first to 0 and the second to
    255. Without one, integers keep the upper 8 of 16 bits, signed bytes are mapped from -128 to
    127, and floats are rounded. Values outside the range are clipped. NaN becomes black. A TIFF
    file whose least value is white is then inverted.
    """
    if not (is_deep_grey(image) or _is_signed_bytes(image)):
        return image
    values = levels = _stored_values(image)
    if value_range is not None:
        low, high = map(float, value_range)
        levels = (values.astype(np.float64) - low) * (255 / (high - low))
    elif image.mode == "L":
        levels = values.astype(np.int16) + 128
    elif image.mode != "F":
        levels = np.clip(values, 0, 65535) >> 8
    if image.mode != "L" and _tiff_tag(image, PHOTOMETRIC_TAG, MIN_IS_WHITE + 1) == MIN_IS_WHITE:
        levels = 255 - levels
    rounded = np.rint(np.nan_to_num(levels, nan=0, posinf=255, neginf=0))
    return Image.fromarray(np.clip(rounded, 0, 255).astype(np.uint8))


def what_is_lost(
    image: Image.Image, deep_colour: bool, value_range: Optional[ValueRange]
) -> Optional[str]:
    """
    Return what a decoded image loses in 8 bits, or `None`. With a chosen `value_range`, only NaN
    counts as lost.
    """
    if deep_colour:
        colours = np.asarray(image)[..., : COLOUR_CHANNELS[image.mode]]
        span = int(colours.max()) - int(colours.min())
        if span > FEW * 255:
            return None
        return (
            f"16-bit colour, whose upper 8 bits have only {span + 1} levels: convert it to 8 bits"
        )
    if not is_deep_grey(image):
        return None
    values = _stored_values(image)
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
    """Warn of the first image of each kind. `lost` comes from `what_is_lost`."""
    kind = lost.partition(",")[0]
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(
            f"{name}: {lost}. Others like it are not reported; check-data lists them all.",
            ValueRangeWarning,
            stacklevel=2,
        )


def check_range_applies(deep_colour: bool, value_range: Optional[ValueRange]) -> None:
    """Raise `UnsupportedImageError` for a file whose values pillow itself reduces to 8 bits."""
    if deep_colour and value_range is not None:
        raise UnsupportedImageError(
            f"16-bit colour, of which pillow reads the upper 8 bits; value_range "
            f"{list(value_range)} cannot be applied: convert the file to 8 bits"
        )
