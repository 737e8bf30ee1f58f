import io
import os
from contextlib import AbstractContextManager
from typing import IO, Callable, Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError

from allencv.runtime.errors import ImageError
from allencv.runtime.regular_files import open_regular
from allencv.runtime.unidentified_files import (
    NEEDS_BY_SUFFIX,
    describe_unidentified,
    register_heif,
)
from allencv.runtime.value_ranges import (
    ValueRange,
    check_range_applies,
    is_deep_colour,
    to_8_bits,
    warn_of_loss,
    what_is_lost,
)

ImageSource = Union[str, os.PathLike, bytes, Image.Image, np.ndarray]
"""A path, the bytes of a file, a PIL image, or a uint8 array `(height, width[, channels])`."""

COLOR_MODES = {"L": 1, "RGB": 3, "RGBA": 4}
"""The colour modes for networks, and their numbers of channels."""

MAX_PIXELS = 178_956_970
"""Files with more pixels than this (half a gigabyte as RGB) are refused before decoding."""

ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image upright, by its EXIF orientation (1 is upright)."""

Image.init()
register_heif()
# EPS needs Ghostscript; the others are stubs that need code of the user's.
FORMATS = sorted(set(Image.OPEN) - {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"})
"""The file formats that are opened, detected by content, not by suffix."""

READ_SUFFIXES = {
    suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS
}
IMAGE_SUFFIXES = READ_SUFFIXES | set(NEEDS_BY_SUFFIX)
"""The suffixes of images, in lower case, including those that need another package."""


def is_named_as_image(path: str) -> bool:
    """Return whether a path has the suffix of an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def is_image(
    path: str, open_file: Callable[[str], AbstractContextManager[IO[bytes]]] = open_regular
) -> bool:
    """Return whether the suffix of a file, or else its content, is that of an image."""
    if is_named_as_image(path):
        return True
    try:
        with open_file(path) as file, Image.open(file, formats=FORMATS):
            return True
    except Exception:  # pillow raises many kinds of errors for files that are not images
        return False


def read_image(
    source: ImageSource, color_mode: str = "RGB", value_range: Optional[ValueRange] = None
) -> np.ndarray:
    """
    Read an image into a `uint8` array of shape `(height, width, channels)`. See `open_image`.
    """
    image = open_image(source, color_mode, value_range)
    return np.asarray(image).reshape(image.height, image.width, -1)


def open_image(
    source: ImageSource, color_mode: str = "RGB", value_range: Optional[ValueRange] = None
) -> Image.Image:
    """
    Read and decode an image, as a PIL image.

    It reads the first frame of an animated file, and applies the EXIF orientation. `to_color_mode`
    describes the conversion of colour modes. The first image of each kind that loses values in it
    causes a `ValueRangeWarning`.

    # Raises

    `ImageError`, with the name of the source, if it is missing, empty, truncated, not an image, or
    has more than `MAX_PIXELS` pixels.
    """
    data = b""
    try:
        if isinstance(source, np.ndarray):
            image = _from_array(source)
        elif isinstance(source, Image.Image):
            image = source
        else:
            data = source if isinstance(source, bytes) else read_file(source)
            if not data:
                raise ImageError("the file is empty (0 bytes)")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
        if 0 in image.size:
            raise ImageError(f"{image.width} x {image.height} pixels; expected at least 1 x 1")
        deep_colour = is_deep_colour(image)
        check_range_applies(deep_colour, value_range)
        image.load()  # pillow turns TIFF files upright here, and clears their orientation
        turn = UPRIGHT.get(exif_orientation(image.getexif))
        lost = what_is_lost(image, deep_colour, value_range)
        if lost is not None:
            warn_of_loss(name_of(source), lost)
        image = to_8_bits(image, value_range)
        image = image if turn is None else image.transpose(turn)
        return to_color_mode(image, color_mode, value_range)
    except UnidentifiedImageError:
        raise ImageError(f"{name_of(source)}: {describe_unidentified(data)}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name_of(source)}: more than {MAX_PIXELS:,} pixels; scale the file down"
        ) from None
    except ImageError as error:
        raise type(error)(f"{name_of(source)}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        # pillow's decoders raise any of these on a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"{name_of(source)}: {error.strerror}") from error
        reason = str(error) or type(error).__name__
        if data and "is truncated" not in reason:
            reason = f"damaged ({reason})"
        raise ImageError(f"{name_of(source)}: {reason}") from error


def exif_orientation(read_exif: Callable[[], Image.Exif]) -> int:
    """Return the EXIF orientation, or 1 (upright) if EXIF is missing or damaged."""
    try:
        return int(read_exif().get(ORIENTATION_TAG, 1))
    except Exception:  # pillow's TIFF reader raises many kinds for a damaged block
        return 1


def to_color_mode(
    image: Image.Image, color_mode: str, value_range: Optional[ValueRange] = None
) -> Image.Image:
    """
    Convert an image of any pillow mode to "L", "RGB" or "RGBA", with 8 bits per channel.

    * Transparency (`RGBA`, `LA`, `PA`, a transparent palette entry or colour key) is composited
      over white, unless `color_mode` is "RGBA".
    * Grey of more than 8 bits (16-bit, signed or 32-bit integers, floating point) is mapped from
      `value_range` to 0 to 255, rounded and clipped. `value_range` is `(black, white)`.
    * Without a `value_range`, 16-bit grey keeps its upper 8 bits; signed and 32-bit integers are
      treated as 16-bit, clipped; floating point as 0 to 255, rounded and clipped.
    * 16-bit colour keeps its upper 8 bits, as pillow reads them.
    * `CMYK`, `YCbCr`, `LAB` and `HSV` are converted by pillow, without colour profiles.
    * "L" is the ITU-R 601 luma; grey becomes RGB by repetition.
    """
    if color_mode not in COLOR_MODES:
        raise ValueError(f"color_mode '{color_mode}' is not one of {list(COLOR_MODES)}")
    image = to_8_bits(image, value_range)
    if image.mode == color_mode:
        image.load()
        return image
    if image.mode in ("LAB", "HSV") and color_mode != "RGB":
        image = image.convert("RGB")
    if color_mode != "RGBA" and (image.has_transparency_data or image.mode in ("RGBa", "La")):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(color_mode)


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim == 3 and channels > 4 and array.shape[0] in (1, 3, 4):
        raise ImageError(
            f"shape {array.shape}, which looks like (channels, height, width); expected "
            "(height, width, channels): use array.transpose(1, 2, 0)"
        )
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ImageError(
            f"dtype {array.dtype} and shape {array.shape}; expected uint8 and "
            "(height, width) or (height, width, 1, 3 or 4)"
        )
    return Image.fromarray(array.reshape(array.shape[:2]) if channels == 1 else array)


def read_file(path: Union[str, os.PathLike]) -> bytes:
    """Return the content of a regular file."""
    with open_regular(os.fspath(path)) as file:  # a number would be that of an open file
        return file.read()


def name_of(source: ImageSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"image of {len(source)} bytes"
    return "image array" if isinstance(source, np.ndarray) else "image"
