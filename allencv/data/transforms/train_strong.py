from typing import List, Optional, Union

from allencv.common.nearest_names import not_one_of
from allencv.data.transforms.fill import MEAN_GREY
from allencv.data.transforms.image_transform import ImageTransform
from allencv.data.transforms.random_erasing import RandomErasing
from allencv.data.transforms.torchvision_transform import TRANSFORMS
from allencv.data.transforms.train_light import TrainLight

AUGMENTATIONS = {"trivial_augment_wide": "TrivialAugmentWide", "rand_augment": "RandAugment"}


@ImageTransform.register("train_strong")
class TrainStrong(TrainLight):
    """
    Training transforms for many epochs, from scratch or of a large network: `train_light`, then
    `trivial_augment_wide` or `rand_augment`, then `random_erasing`.

    With its defaults it is the recipe of torchvision's second ImageNet weights (ResNet-50 at 80.9
    %), for 600 epochs, together with `mixup` of 0.2 or `cutmix` of 1.0, and a label smoothing of
    0.1: Vryniotis 2021, "How to Train State-Of-The-Art Models Using TorchVision's Latest
    Primitives",
    https://pytorch.org/blog/how-to-train-state-of-the-art-models-using-torchvision-latest-primitives/
    With "rand_augment" and an erasing probability of 0.25 it is close to that of DeiT: Touvron et
    al. 2021, https://arxiv.org/abs/2012.12877, table 9.

    Input and output are `uint8`: `(channels, any, any)` to `(channels, height, width)`, with 1 or 3
    channels.

    Registered as an `ImageTransform` with name "train_strong".

    # Parameters

    size : `Union[int, List[int]]`, required
        The size of the result in pixels: one number for a square, or `[height, width]`.
    scale : `List[float]`, optional (default = `[0.08, 1.0]`)
        The area of the crop as a share of the image: smallest and largest.
    flip_probability : `float`, optional (default = `0.5`)
        The probability of mirroring. Use 0 if left and right differ, as in letters and digits.
    interpolation : `str`, optional (default = `"bilinear"`)
        For the crop: "nearest", "nearest-exact", "bilinear", "bicubic" or "lanczos".
    augmentation : `str`, optional (default = `"trivial_augment_wide"`)
        "trivial_augment_wide", one operation of random strength, without settings (Müller and
        Hutter 2021, https://arxiv.org/abs/2103.10158); or "rand_augment", two operations of fixed
        strength (Cubuk et al. 2020, https://arxiv.org/abs/1909.13719).
    erasing_probability : `float`, optional (default = `0.1`)
        The probability of erasing a rectangle, filled with ImageNet's mean grey (Zhong et al. 2020,
        https://arxiv.org/abs/1708.04896).
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
        augmentation: str = "trivial_augment_wide",
        erasing_probability: float = 0.1,
        dct_scaling: bool = True,
    ) -> None:
        if augmentation not in AUGMENTATIONS:
            raise not_one_of("train_strong.augmentation", augmentation, AUGMENTATIONS)
        super().__init__(size, scale, flip_probability, interpolation, dct_scaling)
        augment: ImageTransform = TRANSFORMS[AUGMENTATIONS[augmentation]](interpolation="bilinear")
        erase = RandomErasing(p=erasing_probability, value=MEAN_GREY)
        self.transforms += [augment, erase]
