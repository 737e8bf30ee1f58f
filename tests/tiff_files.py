"""TIFF files of any number of bands and any type, which pillow itself does not write."""

import struct
from typing import List, Optional

import numpy as np

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(pixels: np.ndarray, photometric: Optional[int] = None) -> bytes:
    """
    An uncompressed TIFF file of pixels `(height, width, bands)`: grey or RGB, unless `photometric`
    says otherwise.
    """
    if photometric is None:
        photometric = 2 if pixels.shape[2] >= 3 else 1
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels).tobytes()
    extra = b""
    entries: List[bytes] = []
    start = 8 + len(data)  # of the directory, which has ten entries of 12 bytes

    def entry(tag: int, *values: int) -> None:
        nonlocal extra
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            offset = start + 2 + 10 * 12 + 4 + len(extra)
            extra += packed
            packed = struct.pack("<I", offset)
        entries.append(struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0"))

    entry(256, width)
    entry(257, height)
    entry(258, *[8 * pixels.dtype.itemsize] * bands)
    entry(259, 1)
    entry(262, photometric)
    entry(273, 8)
    entry(277, bands)
    entry(278, height)
    entry(279, len(data))
    entry(339, *[SAMPLE_FORMATS[pixels.dtype.kind]] * bands)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", start) + data + directory + extra
