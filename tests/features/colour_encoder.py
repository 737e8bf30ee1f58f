import numpy as np
from PIL import Image

from allencv.runtime import ImageError, ImageSource, read_image
from allencv.runtime.images import name_of


class ColourEncoder:
    """
    An encoder whose vectors are the mean colours of a grid of 4 x 4 cells. It refuses images of
    less than 8 pixels.
    """

    encoder_checksum = "colours"
    preprocessing_text = ""
    vector_size = 48

    def preprocess(self, source: ImageSource) -> np.ndarray:
        picture = Image.fromarray(read_image(source))
        if picture.width < 8:
            raise ImageError(f"{name_of(source)}: {picture.width} pixels wide; expected 8 or more")
        return np.asarray(picture.resize((4, 4), Image.Resampling.BOX))

    def vectors(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)
