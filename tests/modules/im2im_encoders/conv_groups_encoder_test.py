import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.im2im_encoders import ConvGroupsEncoder, Im2ImEncoder


def batch_norm(features):
    """In training, with weight 1 and bias 0."""
    return F.batch_norm(features, None, None, training=True)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_forward_by_hand(depth):
    encoder = ConvGroupsEncoder(widths=[4, 6], depth=depth)
    images = features = torch.randn(3, 3, 13, 8)
    for group in encoder.groups:
        first, *others = group.convs
        pooled = F.max_pool2d(F.conv2d(features, first.weight, padding=1), 2)
        shortcut = features = F.gelu(batch_norm(pooled))
        for conv in others:
            features = F.gelu(batch_norm(F.conv2d(features, conv.weight, padding=1)))
        if depth == 3:
            features = features + shortcut
    torch.testing.assert_close(encoder(images), features)
    assert features.shape == (3, 6, 3, 2)


def test_dimensions_and_size():
    encoder = ConvGroupsEncoder(input_channels=24)
    assert (encoder.get_input_channels(), encoder.get_output_channels()) == (24, 256)
    assert encoder.get_stride() == 8
    kernels = sum(weight.numel() for weight in encoder.parameters() if weight.dim() == 4)
    assert kernels == 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)


def test_from_params():
    params = {"type": "conv_groups", "widths": [4], "activation": "relu", "norm_momentum": 0.4}
    encoder = Im2ImEncoder.from_params(Params({**params, "input_channels": 1, "depth": 4}))
    assert isinstance(encoder, ConvGroupsEncoder)
    assert len(encoder.groups[0].convs) == 4
    assert [norm.momentum for norm in encoder.groups[0].norms] == [0.4] * 4
    assert (encoder(torch.randn(2, 1, 6, 6)) >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"widths": []}, r"widths is \[\]; expected numbers of 1 or more"),
        ({"widths": [4, 0]}, r"widths is \[4, 0\]; expected numbers of 1 or more"),
        ({"depth": 0}, "depth is 0; expected at least 1"),
        ({"norm_momentum": 0}, "norm_momentum is 0; expected a number above 0 and at most 1"),
        ({"norm_momentum": 1.5}, "norm_momentum is 1.5; expected a number above 0"),
    ],
)
def test_what_makes_no_network_is_refused(arguments, problem):
    with pytest.raises(ConfigurationError, match=problem):
        ConvGroupsEncoder(**arguments)
