import io
from typing import List, Optional

import numpy as np
from PIL import Image, UnidentifiedImageError

from allencv.runtime.errors import ImageError, UnsupportedImageError
from allencv.runtime.images import FORMATS
from allencv.runtime.preprocessing import Preprocessing
from allencv.runtime.unidentified_files import NEEDS_HEIF, UNKNOWN, describe_unidentified
from allencv.serving.errors import RequestError
from allencv.serving.limits import Limits

UPLOAD_FORMATS: List[str] = [
    name
    for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
    if name in FORMATS  # AVIF is an option of pillow's build, and HEIF needs pillow-heif
]
"""The accepted formats. Pillow reads dozens more, whose decoders are less tested for attacks."""

MAX_SCANS = 100
"""
A progressive JPEG has about ten scans, and each costs a pass over all pixels. A file of some
kilobytes can have thousands, and would keep a process busy until its time limit.
"""

MAX_ASPECT_RATIO = 20
"""
An image is resized before its centre is cropped: 1 x 60,000 pixels would become
256 x 15,000,000.
"""

LARGE = 4_000_000
"""Images with more pixels than this are decoded one at a time."""


def open_upload(file: bytes, limits: Limits) -> Image.Image:
    """
    Open an untrusted file and check its header. The pixels are not decoded yet. The content
    determines the format; its name and content type are ignored.

    # Raises

    `RequestError`: 413 for too many pixels; 415 for a file that is not an image in one of
    `UPLOAD_FORMATS`; 422 for an empty or damaged file, or an odd shape.
    """
    if not file:
        raise RequestError(422, "empty_file", "the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(file), formats=UPLOAD_FORMATS)
    except UnidentifiedImageError:
        raise _unidentified(file) from None
    except Image.DecompressionBombError:
        raise _too_large(limits.max_pixels) from None
    except MemoryError:
        raise
    except Exception:  # pillow raises many kinds for a damaged header
        raise damaged("its header cannot be read") from None
    is_jpeg = image.format in ("JPEG", "MPO")  # MPO, from phones: several JPEGs in a file
    max_pixels = limits.max_pixels if is_jpeg else limits.max_other_pixels
    if image.width * image.height > max_pixels:
        raise _too_large(max_pixels)
    if max(image.size) > MAX_ASPECT_RATIO * min(image.size):
        raise RequestError(
            422,
            "odd_shape",
            f"{image.width} x {image.height} pixels; expected one side to be at most "
            f"{MAX_ASPECT_RATIO} times the other",
        )
    if is_jpeg and file.count(b"\xff\xda") > MAX_SCANS:  # cannot occur within compressed data
        raise damaged(f"a JPEG with more than {MAX_SCANS} scans")
    return image


def decode(image: Image.Image, preprocessing: Optional[Preprocessing]) -> Optional[np.ndarray]:
    """
    Return the pixels for the network, `(height, width, channels)`. Without `preprocessing`, only
    decode the image.

    # Raises

    `RequestError`: 422 for a truncated or damaged image; 415 for an unsupported kind of pixels.
    """
    try:
        if preprocessing is None:
            image.load()
            return None
        return preprocessing(image)
    except MemoryError:
        raise
    except UnsupportedImageError as error:
        raise unsupported(_reason(error)) from None
    except ImageError as error:
        raise damaged(_reason(error)) from None
    except Exception as error:  # as above
        raise damaged(type(error).__name__) from None


def _unidentified(file: bytes) -> RequestError:
    """Return why pillow has not opened a file."""
    kind = describe_unidentified(file)
    if kind.startswith("a damaged"):
        return damaged("its header cannot be read")
    if kind == NEEDS_HEIF:
        return unsupported(
            "a HEIC photograph, which the server reads if the package pillow-heif is installed "
            "there: convert it to JPEG"
        )
    if kind != UNKNOWN:
        return unsupported(kind)
    if _begins_as_image(file):
        return damaged("its header cannot be read")
    return unsupported(f"not an image in one of the formats {', '.join(UPLOAD_FORMATS)}")


def _begins_as_image(file: bytes) -> bool:
    """Return whether the first bytes are those of an accepted format, as pillow checks them."""
    accepts = [Image.OPEN[name][1] for name in UPLOAD_FORMATS]
    return any(accept is not None and accept(file[:16]) is True for accept in accepts)


def _reason(error: ImageError) -> str:
    return str(error).removeprefix("image: ")


def unsupported(reason: str) -> RequestError:
    return RequestError(415, "unsupported_format", reason)


def damaged(reason: str) -> RequestError:
    return RequestError(422, "damaged_image", f"a damaged or truncated image: {reason}")


def _too_large(max_pixels: int) -> RequestError:
    return RequestError(
        413, "too_many_pixels", f"more than {max_pixels:,} pixels; scale the image down"
    )
