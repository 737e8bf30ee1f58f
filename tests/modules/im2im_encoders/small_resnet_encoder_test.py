import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.im2im_encoders import Im2ImEncoder, SmallResnetEncoder


def number_of_parameters(encoder):
    return sum(parameter.numel() for parameter in encoder.parameters())


def batch_norm(features):
    """In training, with weight 1 and bias 0."""
    return F.batch_norm(features, None, None, training=True)


def test_dimensions_and_size():
    encoder = SmallResnetEncoder()
    assert encoder.get_input_channels() == 3
    assert encoder.get_output_channels() == 64
    assert encoder.get_stride() == 8
    assert number_of_parameters(encoder) == 77_392


def test_resnet_20_has_the_size_in_the_paper():
    encoder = SmallResnetEncoder(blocks=[3, 3, 3], stem_stride=1)
    assert round(number_of_parameters(encoder), -4) == 270_000  # table 6: 0.27 million


def test_from_params():
    params = {"type": "small_resnet", "widths": [4, 8], "blocks": [2, 1], "input_channels": 1}
    encoder = Im2ImEncoder.from_params(Params({**params, "stem_stride": 1}))
    assert isinstance(encoder, SmallResnetEncoder)
    assert [len(stage) for stage in encoder.stages] == [2, 1]
    assert encoder.get_stride() == 2
    assert encoder(torch.randn(2, 1, 7, 8)).shape == (2, 8, 4, 4)


def test_forward_by_hand():
    encoder = SmallResnetEncoder(
        widths=[2, 4], blocks=[1, 1], stem_stride=1, zero_init_residual=False
    )
    images = torch.randn(3, 3, 8, 8)
    stem = F.relu(batch_norm(F.conv2d(images, encoder.conv1.weight, padding=1)))
    features = stem
    for (block,), stride in zip(encoder.stages, (1, 2), strict=True):
        inner = F.conv2d(features, block.conv1.weight, padding=1, stride=stride)
        inner = F.conv2d(F.relu(batch_norm(inner)), block.conv2.weight, padding=1)
        if stride == 2:
            features = batch_norm(F.conv2d(features, block.downsample[0].weight, stride=2))
        features = F.relu(batch_norm(inner) + features)
    torch.testing.assert_close(encoder(images), features)


def test_a_zero_initialised_block_starts_as_its_shortcut():
    encoder = SmallResnetEncoder(widths=[4], blocks=[2])
    stem = torch.rand(2, 4, 8, 8)
    assert torch.equal(encoder.stages(stem), stem)


def test_a_single_number_of_blocks_is_for_every_stage():
    assert [len(stage) for stage in SmallResnetEncoder(widths=[4, 8], blocks=2).stages] == [2, 2]
    assert [len(stage) for stage in SmallResnetEncoder(widths=[4, 8]).stages] == [1, 1]


@pytest.mark.parametrize(
    ("widths", "blocks", "problem"),
    [
        ([16, 32], [1, 1, 1], "blocks has 3 values, but the number of widths is 2; expected"),
        ([], [], r"widths is \[\]; expected numbers of 1 or more"),
        ([8], [0], r"blocks is \[0\]; expected numbers of 1 or more"),
        ([-8], [1], r"widths is \[-8\]; expected numbers of 1 or more"),
    ],
)
def test_stages_that_do_not_fit_are_refused(widths, blocks, problem):
    with pytest.raises(ConfigurationError, match=problem):
        SmallResnetEncoder(widths=widths, blocks=blocks)


def test_stages():
    stages = SmallResnetEncoder(widths=[4, 8]).get_stages()
    assert stages == [["conv1", "bn1"], ["stages.0"], ["stages.1"]]
