from abc import abstractmethod

import torch
from allennlp.common import Registrable

from allencv.common.checks import CheckedFromParams
from allencv.modules.input_check import check_input_channels


class Im2VecEncoder(CheckedFromParams, torch.nn.Module, Registrable):
    """
    An `Im2VecEncoder` is a `Module` that takes a batch of images or feature maps and returns one
    vector for each. Input shape: `(batch, channels, height, width)`; output shape: `(batch, dim)`.

    Images with a number of channels other than `get_input_channels()` raise a `ConfigurationError`
    before `forward` runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(check_input_channels)

    @abstractmethod
    def get_input_channels(self) -> int:
        """Return the number of channels of an input image."""
        raise NotImplementedError

    @abstractmethod
    def get_output_dim(self) -> int:
        """Return the dimension of the vector for one image: the last dimension of the output."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
