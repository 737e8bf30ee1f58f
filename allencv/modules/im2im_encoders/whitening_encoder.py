from typing import Any, Dict, Iterable, List, Optional, Tuple

import torch
import torch.distributed as dist
from allennlp.common.checks import ConfigurationError
from allennlp.nn import Activation
from torch.nn import functional as F

from allencv.modules.im2im_encoders.im2im_encoder import Im2ImEncoder

PATCH_NUMBERS = 1 << 23
"""How many numbers of patches are in memory at a time: 64 MiB in float64."""


def patch_moments(
    images: torch.Tensor, kernel_size: int
) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Return the number of all patches of `kernel_size` by `kernel_size` pixels, their sum `(size,)`,
    and the sum of their outer products `(size, size)`, in float64 on the CPU. `size` is
    `channels * kernel_size ** 2`. Input shape: `(batch, channels, height, width)`.
    """
    _, channels, height, width = images.shape
    size = channels * kernel_size**2
    shapes: List[Tuple[int, ...]] = [(), (size,), (size, size)]
    count, total, outer = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
    for some in images.cpu().double().split(max(1, PATCH_NUMBERS // (size * height * width))):
        # Shape: (patches, size)
        patches = F.unfold(some, kernel_size).transpose(1, 2).reshape(-1, size)
        count += len(patches)
        total += patches.sum(0)
        outer += patches.T @ patches
    return count, total, outer


def whitening_filters(covariance: torch.Tensor, eps: float) -> torch.Tensor:
    """
    Return the rows `v / sqrt(variance + eps)` for the eigenvectors `v` of a covariance matrix
    `(size, size)`, the largest variance first. With a small `eps` they make numbers of this
    covariance uncorrelated, with variance 1.
    """
    variances, vectors = torch.linalg.eigh(covariance)
    return (vectors / (variances.clamp(min=0) + eps).sqrt()).T.flip(0)


@Im2ImEncoder.register("whitening")
class WhiteningEncoder(Im2ImEncoder):
    """
    Another encoder behind a first convolution that is computed from the training images: it makes
    the pixels of each small patch uncorrelated, with mean 0 and variance 1. Networks trained from
    scratch then learn in fewer steps. From Page (2019,
    https://myrtle.ai/learn/how-to-train-your-resnet-8-bag-of-tricks/), and Jordan (2024,
    arXiv:2404.00498).

    The filters are the eigenvectors of the patches' covariance, each divided by the square root of
    its eigenvalue plus `eps`, and the negatives of these filters. They do not train; their biases
    do. An activation follows.

    Before training, `allencv train` and `allennlp train` pass the first training images,
    transformed and normalised. Archives and checkpoints hold the filters, so nothing else needs
    these images. In Python, call the model's `see_training_images`.

    Input shape: `(batch, input_channels, height, width)`; output shape: that of `encoder`, which
    gets `2 * input_channels * kernel_size ** 2` channels.

    Registered as an `Im2ImEncoder` with name "whitening".

    # Example

    ```jsonnet
    {
      type: "whitening",
      encoder: { type: "conv_groups", widths: [64, 256, 256], input_channels: 24 },
    }
    ```

    # Parameters

    encoder : `Im2ImEncoder`, required
        The rest of the network. Its `input_channels` are 24 for RGB and the default `kernel_size`.
    input_channels : `int`, optional (default = `3`)
        The channels of an input image.
    kernel_size : `int`, optional (default = `2`)
        The height and width of a patch in pixels.
    eps : `float`, optional (default = `0.0005`)
        Added to the eigenvalues, above 0. It limits the noise of patterns that hardly occur.
    num_images : `int`, optional (default = `5000`)
        The number of training images to compute the filters from. Whole batches are used.
    activation : `Activation`, optional (default = `gelu`)
        What follows the filters.
    padded : `bool`, optional (default = `True`)
        Whether to pad images with zeros, so that they keep their size. If not, they lose
        `kernel_size - 1` pixels a side.

    # Raises

    `ConfigurationError` if `encoder` takes another number of channels, and in training if no images
    were seen.
    """

    filters: torch.Tensor

    def __init__(
        self,
        encoder: Im2ImEncoder,
        input_channels: int = 3,
        kernel_size: int = 2,
        eps: float = 5e-4,
        num_images: int = 5000,
        activation: Optional[Activation] = None,
        padded: bool = True,
    ) -> None:
        super().__init__()
        for key, value in (
            ("input_channels", input_channels),
            ("kernel_size", kernel_size),
            ("num_images", num_images),
        ):
            if value < 1:
                raise ConfigurationError(f"{key} is {value}; expected at least 1")
        if eps <= 0:
            raise ConfigurationError(f"eps is {eps}; expected a number above 0")
        size = input_channels * kernel_size**2
        if encoder.get_input_channels() != 2 * size:
            raise ConfigurationError(
                f"model.im2im_encoder (WhiteningEncoder) gives its encoder {2 * size} channels "
                f"(2 * input_channels * kernel_size ** 2), but {type(encoder).__name__} takes "
                f"{encoder.get_input_channels()}: set model.im2im_encoder.encoder.input_channels "
                f"to {2 * size}"
            )
        if encoder.num_training_images:
            raise ConfigurationError(
                f"model.im2im_encoder.encoder is a {type(encoder).__name__}, which takes training "
                "images too; expected another type inside of 'whitening'"
            )
        self._input_channels = input_channels
        self._kernel_size = kernel_size
        self._eps = eps
        self._num_images = num_images
        self._activation = activation or Activation.by_name("gelu")()
        before = (kernel_size - 1) // 2 if padded else 0
        after = kernel_size // 2 if padded else 0
        self._padding = [before, after, before, after]
        self._is_computed = False
        # A buffer, as it does not train: (2 * size, input_channels, kernel_size, kernel_size)
        pixels = torch.eye(size).view(size, input_channels, kernel_size, kernel_size)
        self.register_buffer("filters", torch.cat([pixels, -pixels]))
        self.bias = torch.nn.Parameter(torch.zeros(2 * size))
        self.encoder = encoder

    @property
    def num_training_images(self) -> int:
        return 0 if self._is_computed else self._num_images

    def see_training_images(self, images: Iterable[torch.Tensor]) -> None:
        size = len(self.bias) // 2
        # One vector, for one exchange among ranks, which see different images.
        sums = torch.zeros(1 + size + size**2, dtype=torch.float64)
        for batch in images:
            moments = patch_moments(batch, self._kernel_size)
            sums += torch.cat([each.flatten() for each in moments])
        if dist.is_available() and dist.is_initialized():
            of_ranks = sums.to(self.filters.device)
            dist.all_reduce(of_ranks)
            sums = of_ranks.cpu()
        count, total, outer = sums[0], sums[1 : 1 + size], sums[1 + size :].view(size, size)
        if count == 0:
            raise ConfigurationError(
                "model.im2im_encoder (WhiteningEncoder) saw no training image with a patch of "
                f"{self._kernel_size} by {self._kernel_size} pixels; expected larger images"
            )
        mean = total / count
        filters = whitening_filters(outer / count - mean.outer(mean), self._eps)
        filters = torch.cat([filters, -filters])
        with torch.no_grad():
            self.filters.copy_(filters.view_as(self.filters))
            self.bias.copy_(-filters @ mean)
        self._is_computed = True

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self.encoder.get_output_channels()

    def get_stride(self) -> Optional[int]:
        return self.encoder.get_stride()

    def get_stages(self) -> List[List[str]]:
        first, *others = [
            [f"encoder.{name}" for name in stage] for stage in self.encoder.get_stages()
        ]
        return [["bias", *first], *others]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and not self._is_computed:
            raise ConfigurationError(
                "the filters of model.im2im_encoder (WhiteningEncoder) are not computed; expected "
                "training by 'allencv train' or 'allennlp train', or a call of the model's "
                "see_training_images before"
            )
        # Shape: (batch, 2 * size, height, width)
        white = F.conv2d(F.pad(images, self._padding), self.filters, self.bias)
        return self.encoder(self._activation(white))

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *others: Any, **more: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *others, **more)
        self._is_computed |= f"{prefix}filters" in state_dict
