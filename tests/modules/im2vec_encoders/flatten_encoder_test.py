import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2vec_encoders import FlattenEncoder, Im2VecEncoder


def test_dimensions():
    encoder = FlattenEncoder(input_channels=2048, input_height=1, input_width=1)
    assert encoder.get_input_channels() == 2048
    assert encoder.get_output_dim() == 2048
    assert FlattenEncoder(2, 3, 4).get_output_dim() == 24


def test_forward_lines_up_channels_then_rows():
    encoder = FlattenEncoder(2, 2, 2)
    images = torch.arange(16.0).reshape(2, 2, 2, 2)
    assert encoder(images).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]]


def test_from_params_with_a_feedforward():
    feedforward = {"input_dim": 8, "num_layers": 1, "hidden_dims": 5, "activations": "relu"}
    params = {"type": "flatten", "input_channels": 2, "input_height": 2, "input_width": 2}
    encoder = Im2VecEncoder.from_params(Params({**params, "feedforward": feedforward}))
    assert isinstance(encoder, FlattenEncoder)
    assert encoder.get_output_dim() == 5

    images = torch.randn(3, 2, 2, 2)
    linear = encoder.feedforward._linear_layers[0]
    expected = torch.relu(images.reshape(3, 8) @ linear.weight.T + linear.bias)
    torch.testing.assert_close(encoder(images), expected)


def test_a_feedforward_that_does_not_fit_is_refused():
    feedforward = {"input_dim": 9, "num_layers": 1, "hidden_dims": 5, "activations": "relu"}
    params = {"type": "flatten", "input_channels": 2, "input_height": 2, "input_width": 2}
    with pytest.raises(ConfigurationError, match=r"feedforward\.input_dim is 9; .* = 8"):
        Im2VecEncoder.from_params(Params({**params, "feedforward": feedforward}))


def test_images_of_another_size_are_refused():
    encoder = FlattenEncoder(2, 1, 1)
    with pytest.raises(ConfigurationError) as error:
        encoder(torch.zeros(3, 2, 7, 5))
    assert "expects images of 1 by 1 pixels (height by width), got 7 by 5" in str(error.value)
    assert "change its input_height and input_width" in str(error.value)
