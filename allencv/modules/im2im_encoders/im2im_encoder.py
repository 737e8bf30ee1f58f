from typing import Optional

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams
from allencv.modules.input_check import check_input_channels


class Im2ImEncoder(CheckedFromParams, torch.nn.Module, Registrable):
    """
    An `Im2ImEncoder` is a `Module` that takes a batch of images and returns a batch of feature
    images. Input shape: `(batch, channels, height, width)`, floats, normalised; output shape:
    `(batch, output_channels, output_height, output_width)`.

    Images with another number of channels than `get_input_channels()` raise a `ConfigurationError`
    before `forward` runs.

    A kind that fetches pretrained weights must not do so when its model is rebuilt from an archive:
    it asks `allencv.modules.pretrained_weights.pretrained_weights_skipped()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_input_channels)

    def get_input_channels(self) -> int:
        """The channels of an input image."""
        raise NotImplementedError

    def get_output_channels(self) -> int:
        """The channels of a feature image. This is not the shape of the returned tensor, but the
        second element of that shape."""
        raise NotImplementedError

    def get_stride(self) -> Optional[int]:
        """
        Input pixels per output pixel along each side: an image whose sides are multiples of the
        stride gives `height / stride` by `width / stride` pixels. `None` if the output is pooled to
        1 by 1 whatever the size of the input.
        """
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
