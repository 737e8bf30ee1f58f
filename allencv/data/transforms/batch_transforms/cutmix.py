from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform
from allencv.data.transforms.batch_transforms.mixing import Mixing


@BatchTransform.register("cutmix")
class CutMix(Mixing):
    """
    torchvision's `CutMix`: a rectangle of each image is replaced with that of the previous image in
    the batch, and the label is divided by area. The rectangle is drawn once per batch. Shuffle the
    data, otherwise images are mixed only within their class.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or
    `(batch, num_classes)`, also of images with several labels; the result's labels are
    `(batch, num_classes)`. In distributed training each rank mixes its own images, with draws of
    its own, so the weights differ from those of a single process.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", https://arxiv.org/abs/1905.04899

    Registered as a `BatchTransform` with name "cutmix".

    # Parameters

    alpha : `float`, optional (default = `1.0`)
        The area to keep is drawn from Beta(alpha, alpha); it grows by the part of the rectangle
        outside the image. Above 0. The paper uses 1: a uniform area.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__("cutmix", v2.CutMix, alpha)
