"""
What a finished model needs to answer, and nothing more: numpy and pillow.

Training's validation reader, prediction, export and serving all turn a file into pixels with the
code in here. It imports neither torch nor AllenNLP.
"""

from allencv.runtime.errors import ImageError
from allencv.runtime.images import COLOR_MODES, ImageSource, read_image, to_color_mode
from allencv.runtime.preprocessing import Preprocessing

__all__ = [
    "COLOR_MODES",
    "ImageError",
    "ImageSource",
    "Preprocessing",
    "read_image",
    "to_color_mode",
]
