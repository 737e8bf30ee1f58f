"""Small pictures of image files for pages."""

from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterable, Optional

from allencv.reporting.overlays import data_uri, enlarged
from allencv.runtime import ImageError
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.images import ImageSource, open_image

SIDE, QUALITY = 200, 75
"""The longest side of a thumbnail in pixels, and the quality of its JPEG file."""


def thumbnail_uri(source: ImageSource) -> Optional[str]:
    """Return a small JPEG of an image as a `data:` URI; `None` if it cannot be read."""
    try:
        picture = open_image(source)
    except ImageError:  # it has gone since its vector was computed
        return None
    picture.thumbnail((SIDE, SIDE))
    return data_uri(enlarged(picture, SIDE), QUALITY)


def thumbnail_uris(files: Iterable[str]) -> Dict[str, Optional[str]]:
    """Return the `thumbnail_uri` of each file. Threads decode them."""
    distinct = list(dict.fromkeys(files))
    with ThreadPoolExecutor(cpu_count()) as threads:
        return dict(zip(distinct, threads.map(thumbnail_uri, distinct)))
