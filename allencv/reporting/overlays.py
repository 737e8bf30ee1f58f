"""Maps of Grad-CAM laid over pictures."""

import base64
import io
from typing import Optional

import numpy as np
from matplotlib import colormaps
from PIL import Image

from allencv.predictions.predict import as_jpeg

COLORS = "inferno"
"""A colour map that goes from dark to light evenly, for the colour-blind too."""
STRENGTH = 0.7
"""How much the strongest place hides of the picture, of 1."""


def overlaid(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """
    A picture in grey with a map `(height, width)`, 0 to 1, in colours over it: the brighter, the
    more a place speaks for the label.
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
    """The colours of the maps, from nothing at the left to most at the right."""
    row = colormaps[COLORS](np.linspace(0, 1, width))[None, :, :3]
    return Image.fromarray((np.repeat(row, height, 0) * 255).astype(np.uint8))


def open_jpeg(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content), formats=["JPEG"]).convert("RGB")


def data_uri(picture: Image.Image, quality: Optional[int] = 80) -> str:
    """A picture as a `data:` URI, in JPEG, or without a quality in PNG."""
    if quality is None:
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        content, kind = file.getvalue(), "png"
    else:
        content, kind = as_jpeg(picture, quality), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
