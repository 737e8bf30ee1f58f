from typing import Any

from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms.image_transform import ImageTransform
from allencv.data.transforms.torchvision_transform import TorchvisionTransform


@ImageTransform.register("resize")
class Resize(TorchvisionTransform):
    """
    torchvision's `Resize`, which also takes `height` and `width` instead of `size`.

    Input and output are `(channels, height, width)`.

    Registered as an `ImageTransform` with name "resize".

    # Example

    ```jsonnet
    { type: "resize", size: 256 }
    ```

    # Parameters

    size : `Union[int, List[int]]`, optional (default = `None`)
        In pixels: one number for the shorter side, which keeps the aspect ratio, or
        `[height, width]`.
    interpolation : `str`, optional (default = `"bilinear"`)
        "nearest", "nearest-exact", "bilinear", "bicubic" or "lanczos".
    max_size : `int`, optional (default = `None`)
        The maximum length of the longer side; without `size`, its exact length.
    antialias : `bool`, optional (default = `True`)
    height, width : `int`, optional (default = `None`)
        The same as `size=[height, width]`; the names in the published tutorial.

    https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.Resize.html
    """

    torchvision_class = v2.Resize

    def __init__(
        self,
        size: Any = None,
        interpolation: Any = "bilinear",
        max_size: Any = None,
        antialias: Any = True,
        height: Any = None,
        width: Any = None,
    ) -> None:
        has_size = size is not None or max_size is not None
        sides = [side for side in (height, width) if side is not None]
        if len(sides) != (0 if has_size else 2):
            raise ConfigurationError(
                f"resize has size {size}, max_size {max_size}, height {height} and width {width}; "
                "expected size, or height and width"
            )
        super().__init__(sides or size, interpolation, max_size, antialias)
