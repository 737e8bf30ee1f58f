from abc import abstractmethod

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams
from allencv.modules.input_check import check_input_channels


class Im2VecEncoder(CheckedFromParams, torch.nn.Module, Registrable):
    """
    An `Im2VecEncoder` is a `Module` that takes a batch of (feature) images and returns one vector
    for each. Input shape: `(batch, channels, height, width)`; output shape: `(batch, dim)`.

    Images with another number of channels than `get_input_channels()` raise a `ConfigurationError`
    before `forward` runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_input_channels)

    @abstractmethod
    def get_input_channels(self) -> int:
        """The channels of an input image."""
        raise NotImplementedError

    @abstractmethod
    def get_output_dim(self) -> int:
        """The dimension of the vector for one image. This is not the shape of the returned tensor,
        but the last element of that shape."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
