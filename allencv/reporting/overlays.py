"""Maps of Grad-CAM laid over pictures."""

import base64
import io
from typing import Optional

import numpy as np
from matplotlib import colormaps
from PIL import Image

from allencv.predictions.predict import as_jpeg

COLORS = "inferno"
"""A colour map that gets evenly lighter, also for colour-blind readers."""
STRENGTH = 0.7
"""The opacity of the map where it is strongest, from 0 to 1."""


def overlaid(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """
    Lay a map `(height, width)`, with values from 0 to 1, in colours over the picture in grey.
    Brighter areas support the label more.
    """
    size = picture.size
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float32)
    small = Image.fromarray(np.asarray(heat, dtype=np.float32))
    strength = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    # Shape: (height, width, 3)
    colors = colormaps[COLORS](strength)[:, :, :3].astype(np.float32) * 255
    share = STRENGTH * np.sqrt(strength)[:, :, None]
    return Image.fromarray((grey * (1 - share) + colors * share).round().astype(np.uint8))


def color_bar(width: int = 120, height: int = 8) -> Image.Image:
    """Draw the colours of the maps, from 0 on the left to 1 on the right."""
    row = colormaps[COLORS](np.linspace(0, 1, width))[None, :, :3]
    return Image.fromarray((np.repeat(row, height, 0) * 255).astype(np.uint8))


def open_jpeg(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=["JPEG"]).convert("RGB")


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """Enlarge a small picture up to `side` pixels, by a whole number and without smoothing."""
    factor = max(side // max(picture.size), 1)
    size = (factor * picture.width, factor * picture.height)
    return picture.resize(size, Image.Resampling.NEAREST)


def data_uri(picture: Image.Image, quality: Optional[int] = 80) -> str:
    """Return a picture as a `data:` URI: JPEG with this quality, or PNG if it is `None`."""
    if quality is None:
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        content, kind = file.getvalue(), "png"
    else:
        content, kind = as_jpeg(picture, quality), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
