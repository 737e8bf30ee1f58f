from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms.batch_transform import BatchTransform
from allencv.data.transforms.batch_transforms.mixing import Mixing


@BatchTransform.register("mixup")
class MixUp(Mixing):
    """
    torchvision's `MixUp`: each image becomes the weighted mean of itself and the previous image in
    the batch, and so does its label. The weight is drawn once per batch. Shuffle the data,
    otherwise images are mixed only within their class.

    Images are `(batch, channels, height, width)` floats; labels `(batch,)` or
    `(batch, num_classes)`, also of images with several labels; the result's labels are
    `(batch, num_classes)`. In distributed training each rank mixes its own images, with draws of
    its own, so the weights differ from those of a single process.

    With `trainer.frozen_features` it mixes the features of the images, which is manifold mixup at
    the last frozen layer (Verma et al. 2019, arXiv:1806.05236).

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412

    Registered as a `BatchTransform` with name "mixup".

    # Parameters

    alpha : `float`, optional (default = `0.2`)
        The weight is drawn from Beta(alpha, alpha): near 0 or 1 if alpha is small, uniform for 1.
        Above 0. The paper uses 0.1 to 0.4 for ImageNet and 1 for CIFAR.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__("mixup", v2.MixUp, alpha)

    def mixes_features(self) -> bool:
        return True
