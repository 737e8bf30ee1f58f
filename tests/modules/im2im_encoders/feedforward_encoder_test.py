import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.im2im_encoders import FeedForwardEncoder, Im2ImEncoder


def test_dimensions():
    encoder = FeedForwardEncoder(3, 3, [4, 8, 16], torch.nn.ReLU(), strides=[1, 2, 2])
    assert encoder.get_input_channels() == 3
    assert encoder.get_output_channels() == 16
    assert encoder.get_stride() == 4


def test_from_params_takes_single_values_and_lists():
    params = Params(
        {
            "type": "feedforward",
            "input_channels": 1,
            "num_layers": 2,
            "hidden_channels": 5,
            "activations": ["relu", "tanh"],
            "kernel_sizes": [5, 3],
            "strides": 2,
            "batch_norm": False,
            "dropout": [0.1, 0],
        }
    )
    encoder = Im2ImEncoder.from_params(params)
    assert isinstance(encoder, FeedForwardEncoder)
    first, second = encoder.layers
    assert [type(part).__name__ for part in first] == ["Conv2d", "ReLU", "Dropout2d"]
    assert [type(part).__name__ for part in second] == ["Conv2d", "Tanh", "Dropout2d"]
    assert (first[0].kernel_size, second[0].kernel_size) == ((5, 5), (3, 3))
    assert (first[2].p, second[2].p) == (0.1, 0)


def test_forward_is_convolution_then_activation():
    encoder = FeedForwardEncoder(
        2, 2, [3, 4], torch.nn.ReLU(), kernel_sizes=[5, 1], strides=[2, 1], batch_norm=False
    )
    images = torch.randn(2, 2, 7, 6)
    first, second = (layer[0] for layer in encoder.layers)
    expected = F.relu(F.conv2d(images, first.weight, first.bias, stride=2, padding=2))
    expected = F.relu(F.conv2d(expected, second.weight, second.bias))
    assert expected.shape == (2, 4, 4, 3)  # 7 and 6 pixels over stride 2, rounded up
    torch.testing.assert_close(encoder(images), expected)


def test_batch_norm_comes_before_the_activation_and_replaces_the_bias():
    encoder = FeedForwardEncoder(2, 1, 3, torch.nn.Sigmoid())
    images = torch.randn(4, 2, 5, 5)
    convolution = encoder.layers[0][0]
    assert convolution.bias is None
    features = F.conv2d(images, convolution.weight, padding=1)
    mean = features.mean(dim=(0, 2, 3), keepdim=True)
    variance = features.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    expected = torch.sigmoid((features - mean) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(encoder(images), expected)


def test_dropout_zeroes_whole_channels_in_training_only():
    encoder = FeedForwardEncoder(1, 1, 64, torch.nn.Sigmoid(), batch_norm=False, dropout=0.5)
    images = torch.rand(1, 1, 4, 4)
    dropped = (encoder(images) == 0).flatten(start_dim=2)
    assert torch.equal(dropped.all(dim=2), dropped.any(dim=2))
    assert 10 < dropped.all(dim=2).sum() < 54
    assert (encoder.eval()(images) > 0).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_channels", [4, 4, 4]),
        ("activations", [torch.nn.ReLU()] * 3),
        ("kernel_sizes", [3, 3, 3]),
        ("strides", [1, 1, 1]),
        ("dropout", [0.1, 0.1, 0.1]),
    ],
)
def test_a_list_of_the_wrong_length_is_refused(key, value):
    arguments = {"hidden_channels": 4, "activations": torch.nn.ReLU(), key: value}
    with pytest.raises(ConfigurationError, match=f"{key} has 3 values, but num_layers is 2"):
        FeedForwardEncoder(3, 2, **arguments)


def test_no_layers_and_even_kernels_are_refused():
    with pytest.raises(ConfigurationError, match="num_layers is 0; expected 1 or more"):
        FeedForwardEncoder(3, 0, 4, torch.nn.ReLU())
    with pytest.raises(ConfigurationError, match="kernel_sizes has 2; expected odd"):
        FeedForwardEncoder(3, 2, 4, torch.nn.ReLU(), kernel_sizes=[3, 2])


def test_each_layer_is_a_stage():
    encoder = FeedForwardEncoder(3, 2, 4, torch.nn.ReLU())
    assert encoder.get_stages() == [["layers.0"], ["layers.1"]]
