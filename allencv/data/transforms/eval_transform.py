from typing import List, Union

import torch
from allennlp.common.checks import ConfigurationError

from allencv.data.transforms.image_transform import ImageTransform
from allencv.runtime import Preprocessing


@ImageTransform.register("eval")
class EvalTransform(ImageTransform):
    """
    Resizes and crops an image as in evaluation, prediction and serving: with
    `allencv.runtime.Preprocessing`, by pillow and numpy. Nothing is random.

    Input and output are `uint8`: `(channels, any, any)` to `(channels, height, width)`.

    Registered as an `ImageTransform` with name "eval".

    # Parameters

    size : `Union[int, List[int]]`, required
        The size of the result in pixels: one number for a square, or `[height, width]`.
    fit : `str`, optional (default = `"crop"`)
        "crop" resizes the shorter side to `size / crop_ratio` and crops the centre; "stretch"
        resizes both sides, ignoring the aspect ratio; "pad" resizes the longer side and centres the
        image on black.
    crop_ratio : `float`, optional (default = `0.875`)
        The share of the resized side that "crop" keeps, in (0, 1].
    interpolation : `str`, optional (default = `"bilinear"`)
        "nearest", "bilinear", "bicubic" or "lanczos".
    """

    is_random = False

    def __init__(
        self,
        size: Union[int, List[int]],
        fit: str = "crop",
        crop_ratio: float = 0.875,
        interpolation: str = "bilinear",
    ) -> None:
        try:
            height, width = (size, size) if isinstance(size, int) else size
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"transform 'eval': size is {size!r}; expected a number or [height, width]"
            ) from None
        try:
            self.preprocessing = Preprocessing(height, width, fit, crop_ratio, interpolation)
        except ValueError as error:
            raise ConfigurationError(f"transform 'eval': {error}") from None

    def __repr__(self) -> str:
        prepared = self.preprocessing
        others = [
            f", {key}={getattr(prepared, key)!r}"
            for key in ("fit", "crop_ratio", "interpolation")
            if getattr(prepared, key) != getattr(Preprocessing, key)
        ]
        return f"EvalTransform(size=[{prepared.height}, {prepared.width}]{''.join(others)})"

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        pixels = self.preprocessing.fit_array(image.permute(1, 2, 0).numpy())
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)
