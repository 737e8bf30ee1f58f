"""Describe files that pillow cannot open, and what to do about them."""

import io
from typing import Optional

from PIL import Image, TiffImagePlugin

HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
AVIF_BRANDS = {b"avif", b"avis"}
JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
TIFF = (b"II*\0", b"MM\0*")
BITS, SAMPLES, SAMPLE_FORMAT = 258, 277, 339
SAMPLE_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats"}
"""The meaning of TIFF's sample formats."""

UNKNOWN = "not an image in a format that pillow reads"
NEEDS_HEIF = "a HEIC photograph, which needs a package: pip install pillow-heif"
NEEDS_AVIF = "an AVIF image, which needs pillow 11.2 or later, built with AVIF"

NEEDS_BY_SUFFIX = {
    ".heic": NEEDS_HEIF,
    ".heif": NEEDS_HEIF,
    ".hif": NEEDS_HEIF,
    ".avif": NEEDS_AVIF,
}
"""The requirements for reading images, by suffix."""


def describe_unidentified(data: bytes) -> str:
    """Return why pillow cannot open the content of a file."""
    if data[4:8] == b"ftyp":
        # The main brand, and those that the file is compatible with.
        size = min(int.from_bytes(data[:4], "big"), 256)
        brands = {data[8:12], *(data[start : start + 4] for start in range(16, size, 4))}
        if brands & AVIF_BRANDS:
            return "a damaged AVIF image" if "AVIF" in Image.OPEN else NEEDS_AVIF
        if brands & HEIF_BRANDS:
            return "a damaged HEIC photograph" if "HEIF" in Image.OPEN else NEEDS_HEIF
    if data.startswith(JPEG_XL):
        return "a JPEG XL image, which pillow does not read: convert it to PNG or JPEG"
    if data[257:262] == b"ustar":
        return "a tar file, not an image: unpack it"
    if data.startswith(TIFF):
        samples = _tiff_samples(data)
        if samples is not None:
            return (
                f"a TIFF file of {samples}; expected 1 band of 8 or 16 bits, of 32-bit integers or "
                "of 32-bit floats, or 3 or 4 bands of 8 or 16 unsigned bits: convert it"
            )
    return UNKNOWN


def _tiff_samples(data: bytes) -> Optional[str]:
    """Return, say, "5 bands of 16-bit unsigned integers", or `None` for a damaged header."""
    try:
        file = io.BytesIO(data)
        tags = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(tags.next)
        tags.load(file)
        bands, bits = tags.get(SAMPLES, 1), tags[BITS][0]
        kind = SAMPLE_FORMATS.get(tags.get(SAMPLE_FORMAT, (1,))[0], "samples of another kind")
        return f"{bands} band{'s' if bands != 1 else ''} of {bits}-bit {kind}"
    except Exception:  # pillow's TIFF reader raises many kinds for a damaged header
        return None


def register_heif() -> None:
    """
    Let pillow open HEIC files, if pillow-heif is installed. Each file is decoded by one thread, as
    other threads decode other files.
    """
    try:
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]
    except ImportError:
        return
    register_heif_opener(decode_threads=1)
