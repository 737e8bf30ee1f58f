import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2vec_encoders import Im2VecEncoder


@Im2VecEncoder.register("centre_pixel_test")
class CentrePixel(Im2VecEncoder):
    """A kind of a user's own, in a file of their own."""

    def __init__(self, input_channels: int) -> None:
        super().__init__()
        self._input_channels = input_channels

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_dim(self) -> int:
        return self._input_channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, images.shape[2] // 2, images.shape[3] // 2]


def test_own_kind_is_built_by_name_and_checks_its_input():
    encoder = Im2VecEncoder.from_params(Params({"type": "centre_pixel_test", "input_channels": 2}))
    assert encoder(torch.arange(18.0).reshape(1, 2, 3, 3)).tolist() == [[4, 13]]
    with pytest.raises(ConfigurationError, match="CentrePixel expects"):
        encoder(torch.zeros(1, 3, 4, 4))
