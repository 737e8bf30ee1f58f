"""Small pictures of image files for pages."""

from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, Optional

from PIL import Image

from allencv.reporting.overlays import data_uri, enlarged
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.images import ImageSource, open_image
from allencv.runtime.value_ranges import ValueRange

SIDE, QUALITY = 200, 75
"""The longest side of a thumbnail in pixels, and the quality of its JPEG file."""


def thumbnail(source: ImageSource, value_range: Optional[ValueRange] = None) -> Image.Image:
    """Return a small copy of an image. Raise `ImageError` if it cannot be read."""
    picture = open_image(source, value_range=value_range)
    picture.thumbnail((SIDE, SIDE))
    return enlarged(picture, SIDE)


def thumbnail_uris(files: Iterable[str]) -> Dict[str, Optional[str]]:
    """
    Return a thumbnail of each file as a `data:` URI; `None` for one that cannot be read. Threads
    decode the files.
    """
    distinct = list(dict.fromkeys(files))
    with ThreadPoolExecutor(cpu_count()) as threads:
        return dict(zip(distinct, threads.map(_uri, distinct)))


def _uri(file: str) -> Optional[str]:
    try:
        return data_uri(thumbnail(file), QUALITY)
    except ImageError:  # it has gone since its vector was computed
        return None
