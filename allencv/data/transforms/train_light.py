from typing import List, Optional, Union

from allencv.data.transforms.image_transform import ImageTransform, InTurn
from allencv.data.transforms.random_resized_crop import RandomResizedCrop
from allencv.data.transforms.torchvision_transform import TRANSFORMS


@ImageTransform.register("train_light")
class TrainLight(InTurn):
    """
    Basic training transforms: a random part of the image at the size of the network
    (`random_resized_crop`), randomly mirrored (`random_horizontal_flip`). Use them as a start for
    fine-tuning and for short training.

    torchvision trained its first ImageNet weights with them, after Szegedy et al. 2015, "Going
    Deeper with Convolutions", section 6, https://arxiv.org/abs/1409.4842

    Input and output are `(channels, any, any)` and `(channels, height, width)`.

    Registered as an `ImageTransform` with name "train_light".

    # Parameters

    size : `Union[int, List[int]]`, required
        The size of the result in pixels: one number for a square, or `[height, width]`.
    scale : `List[float]`, optional (default = `[0.08, 1.0]`)
        The area of the crop as a share of the image: smallest and largest. For a few epochs, or for
        small objects, use `[0.35, 1.0]`.
    flip_probability : `float`, optional (default = `0.5`)
        The probability of mirroring. Use 0 if left and right differ, as in letters and digits.
    interpolation : `str`, optional (default = `"bilinear"`)
        "nearest", "nearest-exact", "bilinear", "bicubic" or "lanczos".
    dct_scaling : `bool`, optional (default = `True`)
        Decode large JPEG files at a fraction of their size; see `random_resized_crop`.
    """

    is_random = True

    def __init__(
        self,
        size: Union[int, List[int]],
        scale: Optional[List[float]] = None,
        flip_probability: float = 0.5,
        interpolation: str = "bilinear",
        dct_scaling: bool = True,
    ) -> None:
        crop = RandomResizedCrop(
            size, scale or [0.08, 1.0], interpolation=interpolation, dct_scaling=dct_scaling
        )
        flip: ImageTransform = TRANSFORMS["RandomHorizontalFlip"](p=flip_probability)
        super().__init__([crop, flip])
