from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform
from allencv.data.transforms.batch_transforms.mixing import Mixing


@BatchTransform.register("cutmix")
class CutMix(Mixing):
    """
    torchvision's `CutMix`: a rectangle of each image is replaced with that of the image before it
    in the batch, and the label is shared out by area. The rectangle is drawn once for each batch.
    The batch must be shuffled, or else an image meets those of its own class alone.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or `(batch,
    num_classes)`, of images with several labels too; the result's labels are `(batch,
    num_classes)`.

    Yun et al. 2019, "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", https://arxiv.org/abs/1905.04899

    Registered as a `BatchTransform` with name "cutmix".

    # Parameters

    alpha : `float`, optional (default = `1.0`)
        The area that is kept is drawn from Beta(alpha, alpha), of which the part of the rectangle
        that lies outside the image is given back. Above 0. The paper has 1: any area alike.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__("cutmix", v2.CutMix, alpha)
