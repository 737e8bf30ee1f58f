from abc import abstractmethod
from typing import Iterable, List, Optional, Self

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams
from allencv.modules.freezing import stop_frozen_batch_norm
from allencv.modules.input_check import check_input_channels
from allencv.modules.stages import layer_stages


class Im2ImEncoder(CheckedFromParams, torch.nn.Module, Registrable):
    """
    An `Im2ImEncoder` is a `Module` that takes a batch of images and returns a batch of feature
    maps. Input shape: `(batch, channels, height, width)`, floats, normalised; output shape:
    `(batch, output_channels, output_height, output_width)`.

    Images with a number of channels other than `get_input_channels()` raise a `ConfigurationError`
    before `forward` runs.

    Batch normalisation whose weights do not require gradients is frozen completely: it uses its
    running statistics and does not change them, in training too.

    A subclass that fetches pretrained weights must not do so when its model is rebuilt from an
    archive: check `allencv.modules.pretrained_weights.pretrained_weights_skipped()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_input_channels)

    @abstractmethod
    def get_input_channels(self) -> int:
        """Return the number of channels of an input image."""
        raise NotImplementedError

    @abstractmethod
    def get_output_channels(self) -> int:
        """Return the number of channels of a feature map: the second dimension of the output."""
        raise NotImplementedError

    def get_stride(self) -> Optional[int]:
        """
        Return the number of input pixels per output pixel along each side: an image whose sides are
        multiples of the stride gives `height / stride` by `width / stride` pixels. `None` if the
        output is always pooled to 1 by 1.
        """
        raise NotImplementedError

    def get_stages(self) -> List[List[str]]:
        """
        Return the parts of the encoder from input to output: each stage is a list of names of
        submodules or parameters, and each parameter is in exactly one stage. By default, each
        direct child is a stage; one without a weight matrix, such as a normalisation, joins the one
        before it.
        """
        return layer_stages(self)

    @property
    def num_training_images(self) -> int:
        """How many training images `see_training_images` must get before training."""
        return 0

    def see_training_images(self, images: Iterable[torch.Tensor]) -> None:
        """
        Compute what depends on the training images, from batches of them, transformed and
        normalised. Called before training if `num_training_images` is above 0. In distributed
        training each rank calls it with other images.
        """

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        stop_frozen_batch_norm(self)
        return self

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
