"""
What every registered encoder must keep. A new kind adds its smallest params to `IM2IM` or `IM2VEC`.
"""

import copy

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder

RESNET = {"resnet_model": "resnet18", "weights": None}
IM2IM = {
    "feedforward": {
        "input_channels": 3,
        "num_layers": 2,
        "hidden_channels": [4, 6],
        "activations": "relu",
        "strides": [2, 2],
    },
    "pretrained_resnet": RESNET,
    "resnet": {**RESNET, "pool": False},
    "small_resnet": {"widths": [4, 8], "blocks": [1, 2]},
}
IM2VEC = {
    "flatten": {"input_channels": 3, "input_height": 64, "input_width": 96},
    "pooling": {"input_channels": 3},
}
SIZES = [(64, 96), (128, 64)]
MADE_FOR_ONE_SIZE = {"flatten"}


def registered(base):
    """The names of AllenCV's own kinds, without those that other tests register."""
    names = base.list_available()
    return [name for name in names if base.by_name(name).__module__.startswith("allencv.")]


def build(base, name):
    examples = IM2IM if base is Im2ImEncoder else IM2VEC
    assert name in examples, f'give the smallest params of "{name}" in this file'
    torch.manual_seed(0)
    return base.from_params(Params(copy.deepcopy({"type": name, **examples[name]})))


def some_images(encoder, size=SIZES[0]):
    return torch.randn(2, encoder.get_input_channels(), *size)


EVERY = [(base, name) for base in (Im2ImEncoder, Im2VecEncoder) for name in registered(base)]
every_encoder = pytest.mark.parametrize(("base", "name"), EVERY, ids=[name for _, name in EVERY])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", registered(Im2ImEncoder))
def test_im2im_encoder_gives_the_channels_and_stride_that_it_declares(name, size):
    encoder = build(Im2ImEncoder, name).eval()
    stride = encoder.get_stride()
    height, width = (1, 1) if stride is None else (size[0] // stride, size[1] // stride)
    features = encoder(some_images(encoder, size))
    assert features.shape == (2, encoder.get_output_channels(), height, width)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("name", registered(Im2VecEncoder))
def test_im2vec_encoder_gives_the_dim_that_it_declares(name):
    encoder = build(Im2VecEncoder, name).eval()
    for size in SIZES[:1] if name in MADE_FOR_ONE_SIZE else SIZES:
        vectors = encoder(some_images(encoder, size))
        assert vectors.shape == (2, encoder.get_output_dim())


@every_encoder
def test_gradient_reaches_the_images_and_every_parameter(base, name):
    encoder = build(base, name).train()
    images = some_images(encoder).requires_grad_()
    encoder(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())


@every_encoder
def test_state_dict_restores_the_output(base, name):
    encoder, other = build(base, name), build(base, name)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    encoder(some_images(encoder))  # moves running statistics
    other.load_state_dict(encoder.state_dict())
    images = some_images(encoder)
    assert torch.equal(encoder.eval()(images), other.eval()(images))


@every_encoder
def test_evaluation_is_deterministic_and_keeps_the_buffers(base, name):
    encoder = build(base, name).eval()
    before = copy.deepcopy(encoder.state_dict())
    images = some_images(encoder)
    assert torch.equal(encoder(images), encoder(images))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


@every_encoder
def test_an_unknown_key_is_refused(base, name):
    params = {**IM2IM, **IM2VEC}[name]
    with pytest.raises(ConfigurationError, match="colour"):
        base.from_params(Params({"type": name, **copy.deepcopy(params), "colour": "red"}))


@every_encoder
def test_a_wrong_number_of_channels_is_refused(base, name):
    encoder = build(base, name)
    with pytest.raises(
        ConfigurationError, match=r"\(batch, 3, height, width\), got \(2, 7, 64, 96\)"
    ):
        encoder(torch.randn(2, 7, 64, 96))
