import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2vec_encoders import FeedForwardVectorEncoder, Im2VecEncoder


def build(input_dim, **im2vec_encoder):
    feedforward = {
        "input_dim": input_dim,
        "num_layers": 2,
        "hidden_dims": [5, 3],
        "activations": ["relu", "linear"],
    }
    return Im2VecEncoder.from_params(
        Params(
            {"type": "feedforward", "im2vec_encoder": im2vec_encoder, "feedforward": feedforward}
        )
    )


@pytest.mark.parametrize(
    ("input_dim", "im2vec_encoder"),
    [
        (4, {"type": "pooling", "input_channels": 4}),
        (8, {"type": "pooling", "input_channels": 4, "pool": "avg_max"}),
        (24, {"type": "flatten", "input_channels": 4, "input_height": 2, "input_width": 3}),
    ],
)
def test_layers_after_another_encoder(input_dim, im2vec_encoder):
    encoder = build(input_dim, **im2vec_encoder)
    assert isinstance(encoder, FeedForwardVectorEncoder)
    assert (encoder.get_input_channels(), encoder.get_output_dim()) == (4, 3)
    images = torch.randn(2, 4, 2, 3)
    first, second = encoder.feedforward._linear_layers
    expected = second(torch.relu(first(encoder.im2vec_encoder(images))))
    torch.testing.assert_close(encoder(images), expected)


def test_layers_of_another_dimension_are_refused():
    with pytest.raises(ConfigurationError) as error:
        build(4, type="pooling", input_channels=4, pool="avg_max")
    assert str(error.value) == (
        "feedforward.input_dim is 4; expected 8, the output dimension of im2vec_encoder "
        "(PoolingEncoder)"
    )
