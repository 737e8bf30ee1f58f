import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import Im2ImEncoder


@Im2ImEncoder.register("space_to_depth_test")
class SpaceToDepth(Im2ImEncoder):
    """A kind of a user's own, in a file of their own."""

    def __init__(self, input_channels: int, block_size: int = 2) -> None:
        super().__init__()
        self._input_channels = input_channels
        self._block_size = block_size

    def get_input_channels(self) -> int:
        return self._input_channels

    def get_output_channels(self) -> int:
        return self._input_channels * self._block_size**2

    def get_stride(self) -> int:
        return self._block_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pixel_unshuffle(images, self._block_size)


def test_own_kind_is_built_by_name_and_checks_its_input():
    encoder = Im2ImEncoder.from_params(Params({"type": "space_to_depth_test", "input_channels": 1}))
    features = encoder(torch.arange(16.0).reshape(1, 1, 4, 4))
    assert features[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert features.shape == (1, encoder.get_output_channels(), 2, 2)
    with pytest.raises(ConfigurationError, match="SpaceToDepth expects"):
        encoder(torch.zeros(1, 3, 4, 4))
