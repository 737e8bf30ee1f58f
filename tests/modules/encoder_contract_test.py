"""
What every registered encoder must keep. A new kind adds its smallest params to `IM2IM` or `IM2VEC`;
"timm" and "torchvision" have several, one for each family of networks.
"""

import copy
from collections.abc import Iterator

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.modules.im2im_encoders import Im2ImEncoder
from allencv.modules.im2vec_encoders import Im2VecEncoder
from tests.modules.small_networks import small_networks

SIZES = [(64, 96), (128, 64)]
ONE_SIZE = list(SIZES[0])

IM2IM = [
    {
        "type": "feedforward",
        "input_channels": 3,
        "num_layers": 2,
        "hidden_channels": [4, 6],
        "activations": "relu",
        "strides": [2, 2],
    },
    {"type": "pretrained_resnet", "resnet_model": "resnet18", "weights": None},
    {"type": "resnet", "resnet_model": "resnet18", "weights": None, "pool": False},
    {"type": "small_resnet", "widths": [4, 8], "blocks": [1, 2]},
    {"type": "conv_groups", "widths": [4, 6]},
    {
        "type": "whitening",
        "encoder": {"type": "conv_groups", "widths": [4, 6], "input_channels": 24},
    },
]


def timm(model_name, arguments=None, **params):
    own = {"type": "timm", "model_name": model_name, "pretrained": False, **params}
    return {**own, "timm_arguments": arguments} if arguments else own


SWIN = {"window_size": 2, "embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 1, 2, 2]}
DENSENET = {"growth_rate": 4, "block_config": [1, 1, 1, 1]}
TWO_BLOCKS = {"embed_dim": 24, "depth": 2, "num_heads": 2}
TIMM = [
    timm("test_resnet"),
    timm("test_resnet", pool=False),
    timm("test_resnet", stage=2),
    timm("test_vit", image_size=ONE_SIZE),
    timm("test_vit", {"global_pool": "avg"}, image_size=ONE_SIZE),
    timm("test_vit", {"dynamic_img_size": True}, pool=False),
    timm("test_vit", image_size=ONE_SIZE, pool=False, stage=-3),
    timm("test_vit3", image_size=ONE_SIZE),  # attention pooling
    timm("test_convnext"),
    timm("test_convnext", pool=False),
    timm("swin_tiny_patch4_window7_224", SWIN, image_size=ONE_SIZE),
    timm("swin_tiny_patch4_window7_224", SWIN, image_size=ONE_SIZE, pool=False),
    timm("test_efficientnet", pool=False),
    timm("test_byobnet", drop_path_rate=0.2),
    timm("test_nfnet", pool=False, stage=1),
    timm("test_mambaout", gradient_checkpointing=True),
    timm("test_coatnet", image_size=ONE_SIZE),
    timm("mobilenetv3_small_050"),
    timm("mobilenetv3_small_050", pool=False),
    timm("densenet121", DENSENET, pool=False),
    timm("regnetx_002"),
    timm("edgenext_xx_small"),
    timm("deit_tiny_distilled_patch16_224", TWO_BLOCKS, image_size=ONE_SIZE),
    timm("beit_base_patch16_224", TWO_BLOCKS, image_size=ONE_SIZE, pool=False),
]


def torchvision(model_name, **params):
    return {"type": "torchvision", "model_name": model_name, "weights": None, **params}


TORCHVISION = [
    torchvision("convnext_tiny"),
    torchvision("densenet121", pool=False),
    torchvision("efficientnet_b0"),
    torchvision("googlenet", pool=False),
    torchvision("mnasnet0_5"),
    torchvision("mobilenet_v2", pool=False),
    torchvision("mobilenet_v3_small"),
    torchvision("mobilenet_v3_small", pool=False),
    torchvision("regnet_y_400mf", pool=False),
    torchvision("resnet18", pool=False),
    torchvision("shufflenet_v2_x0_5"),
    torchvision("squeezenet1_1"),
    torchvision("swin_t", pool=False),
]
IM2VEC = [
    {"type": "flatten", "input_channels": 3, "input_height": 64, "input_width": 96},
    {"type": "pooling", "input_channels": 3},
    {
        "type": "feedforward",
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
        "feedforward": {
            "input_dim": 3,
            "num_layers": 1,
            "hidden_dims": 4,
            "activations": "relu",
        },
    },
]
EXAMPLES = [(Im2ImEncoder, params) for params in IM2IM + TIMM + TORCHVISION]
EXAMPLES += [(Im2VecEncoder, params) for params in IM2VEC]


def build(base, params):
    torch.manual_seed(0)
    encoder = base.from_params(Params(copy.deepcopy(params)))
    if base is Im2ImEncoder:
        encoder.see_training_images([torch.randn(8, 3, 16, 16)])
    return encoder


def name_of(example):
    values = [value for value in example[1].values() if not isinstance(value, dict)]
    return "-".join(map(str, values))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope="module", params=EXAMPLES, ids=name_of)
def example(request, small):
    """The base, the params, and the encoder, which must not be changed."""
    base, params = request.param
    return base, params, build(base, params)


@pytest.fixture
def encoder(example):
    return copy.deepcopy(example[2])


def some_images(encoder, size=SIZES[0]):
    return torch.randn(2, encoder.get_input_channels(), *size)


def holds(prefix, name):
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("base", [Im2ImEncoder, Im2VecEncoder])
def test_every_kind_is_tested(base):
    """Without those that other tests register."""
    names = [
        name
        for name in base.list_available()
        if base.by_name(name).__module__.startswith("allencv.")
    ]
    tested = {params["type"] for example_base, params in EXAMPLES if example_base is base}
    assert set(names) == tested, "give the smallest params of a new kind in this file"


def test_the_output_has_the_dimensions_that_are_declared(example):
    base, params, encoder = example
    encoder.eval()
    for size in SIZES[:1] if params["type"] == "flatten" or "image_size" in params else SIZES:
        with torch.no_grad():
            output = encoder(some_images(encoder, size))
        assert output.dtype == torch.float32
        if base is Im2VecEncoder:
            assert output.shape == (2, encoder.get_output_dim())
            continue
        stride = encoder.get_stride()
        height, width = (1, 1) if stride is None else (size[0] // stride, size[1] // stride)
        assert output.shape == (2, encoder.get_output_channels(), height, width)


def test_gradient_reaches_the_images_and_every_parameter(encoder):
    images = some_images(encoder).requires_grad_()
    encoder.train()(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_every_parameter_is_in_one_stage(example):
    base, _, encoder = example
    if base is Im2VecEncoder:
        return
    stages = encoder.get_stages()
    prefixes = [prefix for stage in stages for prefix in stage]
    names = [name for name, _ in encoder.named_parameters()]
    for name in names:
        assert sum(holds(prefix, name) for prefix in prefixes) == 1, name
    for prefix in prefixes:
        assert any(holds(prefix, name) for name in names), prefix
    # From the input to the output: the first stage holds what was registered first.
    assert any(holds(prefix, names[0]) for prefix in stages[0])
    assert len(stages) > 1


def test_frozen_batch_norm_keeps_its_statistics(encoder):
    """Whoever freezes it, and only where it is frozen."""
    norms = {n: m for n, m in encoder.named_modules() if isinstance(m, _BatchNorm)}
    if not norms:
        return
    names = list(norms)
    frozen = names[: len(names) // 2 + 1]
    for name in frozen:
        norms[name].requires_grad_(False)
    before = copy.deepcopy(norms)
    encoder.train()(some_images(encoder))
    for name, norm in norms.items():
        kept = torch.equal(norm.running_mean, before[name].running_mean)
        assert kept == (name in frozen), name


def test_state_dict_restores_the_output(example, encoder):
    base, params, _ = example
    for parameter in encoder.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    with torch.no_grad():
        encoder.train()(some_images(encoder))  # moves running statistics
        images = some_images(encoder)
        expected = encoder.eval()(images)
        other = build(base, params)
        other.load_state_dict(encoder.state_dict())
        assert torch.equal(other.eval()(images), expected)


def test_evaluation_is_deterministic_and_keeps_the_buffers(encoder):
    encoder.eval()
    before = copy.deepcopy(encoder.state_dict())
    images = some_images(encoder)
    with torch.no_grad():
        assert torch.equal(encoder(images), encoder(images))
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_channels_last_images_give_the_same(example):
    encoder = example[2].eval()
    images = some_images(encoder)
    with torch.no_grad():
        expected = encoder(images)
        torch.testing.assert_close(
            encoder(images.to(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-4
        )


def test_an_unknown_key_is_refused(example):
    base, params, _ = example
    with pytest.raises(ConfigurationError, match="colour"):
        base.from_params(Params({**copy.deepcopy(params), "colour": "red"}))


def test_a_wrong_number_of_channels_is_refused(example):
    encoder = example[2]
    with pytest.raises(
        ConfigurationError, match=r"\(batch, 3, height, width\), got \(2, 7, 64, 96\)"
    ):
        encoder(torch.randn(2, 7, 64, 96))
