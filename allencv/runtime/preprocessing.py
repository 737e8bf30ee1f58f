from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
from PIL import Image

from allencv.runtime.images import COLOR_MODES, ImageSource, open_image
from allencv.runtime.value_ranges import checked_range

FITS = ("crop", "stretch", "pad")
LARGEST_SIDE = 8192
"""
The most pixels along a side of an image for a network, before and after it is cropped: 200 MB as
RGB, and 800 MB as floats.
"""
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocessing:
    """
    The conversion of an image to pixels for evaluation, shared by validation, prediction, export
    and serving. The result is `uint8`, `(height, width, channels)`; the network itself turns it
    into normalised floats.

    # Parameters

    height, width : the size of the result, in pixels, at most 8192.
    fit : how to fit an image of another shape.
        "crop" resizes the shorter side to `size / crop_ratio` and crops the centre, as ImageNet
        models are evaluated; "stretch" resizes both sides and ignores the aspect ratio; "pad"
        resizes the longer side and centres the image on black.
    crop_ratio : the share of the resized image's side that "crop" keeps, in (0, 1].
    interpolation : "nearest", "bilinear", "bicubic" or "lanczos", as in pillow.
    color_mode : "RGB", "L" or "RGBA".
    value_range : the values that become black and white in images of more than 8 bits per channel;
        `None` for the defaults of `to_color_mode`.

    # Raises

    `ValueError` with the argument, its value and what was expected.
    """

    height: int
    width: int
    fit: str = "crop"
    crop_ratio: float = 0.875
    interpolation: str = "bilinear"
    color_mode: str = "RGB"
    value_range: Optional[Tuple[float, float]] = None

    def __post_init__(self) -> None:
        for key in ("height", "width"):
            value = getattr(self, key)
            if not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
                raise ValueError(f"{key} is {value!r}; expected 1 to {LARGEST_SIDE} pixels")
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(f"crop_ratio is {self.crop_ratio!r}; expected a number in (0, 1]")
        resized = max(self.height, self.width) / self.crop_ratio
        if self.fit == "crop" and resized > LARGEST_SIDE:
            raise ValueError(
                f"crop_ratio is {self.crop_ratio!r}, which resizes an image to {resized:,.0f} "
                f"pixels before it is cropped; expected at most {LARGEST_SIDE}"
            )
        for key, choices in (
            ("fit", FITS),
            ("interpolation", INTERPOLATIONS),
            ("color_mode", COLOR_MODES),
        ):
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"{key} is {getattr(self, key)!r}; expected one of {list(choices)}"
                )
        object.__setattr__(self, "value_range", checked_range(self.value_range))

    def __call__(self, source: ImageSource) -> np.ndarray:
        """Read, resize and crop an image. Raise `ImageError` if it cannot be read."""
        return self._fit(open_image(source, self.color_mode, self.value_range))

    def fit_array(self, array: np.ndarray) -> np.ndarray:
        """Resize and crop a decoded `uint8` array `(height, width, channels)`."""
        return self._fit(Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array))

    def _fit(self, image: Image.Image) -> np.ndarray:
        resized = image.resize(self._resized_size(*image.size), INTERPOLATIONS[self.interpolation])
        left = _centred(resized.width, self.width)
        top = _centred(resized.height, self.height)
        box = (left, top, left + self.width, top + self.height)
        # crop() fills areas outside the image with black, as "pad" needs
        cropped = resized if box == (0, 0, *resized.size) else resized.crop(box)
        return np.asarray(cropped).reshape(self.height, self.width, -1)

    def _resized_size(self, width: int, height: int) -> Tuple[int, int]:
        if self.fit == "stretch":
            return self.width, self.height
        ratios = (self.width / width, self.height / height)
        if self.fit == "pad":
            scale = min(ratios)
            return max(1, round(width * scale)), max(1, round(height * scale))
        # The side that shrinks less is resized to its target, and the other follows, rounded down:
        # torchvision's Resize does the same for a square target.
        if ratios[0] >= ratios[1]:
            target = int(self.width / self.crop_ratio)
            return target, max(self.height, int(target * height / width))
        target = int(self.height / self.crop_ratio)
        return max(self.width, int(target * width / height)), target


def _centred(size: int, target: int) -> int:
    return round((size - target) / 2)
