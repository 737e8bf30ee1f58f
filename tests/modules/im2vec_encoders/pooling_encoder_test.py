import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.im2vec_encoders import Im2VecEncoder, PoolingEncoder
from allencv.modules.im2vec_encoders.pooling_encoder import attention_pool, gem_pool


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(2, 4, 5, 3)


@pytest.mark.parametrize("pool", ["avg", "max", "gem", "attention"])
def test_dimensions_and_from_params(pool, images):
    encoder = Im2VecEncoder.from_params(
        Params({"type": "pooling", "input_channels": 4, "pool": pool})
    )
    assert isinstance(encoder, PoolingEncoder)
    assert encoder.get_input_channels() == encoder.get_output_dim() == 4
    for size in (images, images[:, :, :1, :1]):
        assert encoder(size).shape == (2, 4)
    if pool != "gem":  # which takes values below 1e-6 for 1e-6
        one_pixel = images[:, :, :1, :1]
        torch.testing.assert_close(encoder(one_pixel), one_pixel.flatten(1))


def test_average_and_maximum(images):
    average = F.adaptive_avg_pool2d(images, 1).flatten(1)
    torch.testing.assert_close(PoolingEncoder(4)(images), average)
    maximum = F.adaptive_max_pool2d(images, 1).flatten(1)
    assert torch.equal(PoolingEncoder(4, "max")(images), maximum)


def test_average_and_maximum_together(images):
    encoder = Im2VecEncoder.from_params(
        Params({"type": "pooling", "input_channels": 4, "pool": "avg_max"})
    )
    assert encoder.get_output_dim() == 8
    average, maximum = PoolingEncoder(4)(images), PoolingEncoder(4, "max")(images)
    assert torch.equal(encoder(images), torch.cat([average, maximum], dim=1))


def test_gem_pool_by_hand():
    images = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]])
    assert gem_pool(images, 3.0).item() == pytest.approx((36 / 4) ** (1 / 3))  # 1 + 8 + 27 + 0
    assert gem_pool(images.abs(), 1.0).item() == pytest.approx(2.5)
    assert gem_pool(images.abs(), 50.0).item() == pytest.approx(4, rel=0.03)


def test_gem_learns_p_from_its_first_value(images):
    encoder = PoolingEncoder(4, "gem", gem_p=2.0)
    torch.testing.assert_close(encoder(images), gem_pool(images, 2.0))
    encoder(images).sum().backward()
    assert encoder.p.grad.abs() > 0
    encoder(torch.full((1, 4, 2, 2), -1.0)).sum().backward()
    assert encoder.p.grad.isfinite()


def test_attention_pool_by_hand():
    # Two positions: (1, 0) scores 2 / sqrt(2), (0, 1) scores 0.
    images = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    first = math.exp(math.sqrt(2)) / (math.exp(math.sqrt(2)) + 1)
    pooled = attention_pool(images, torch.tensor([2.0, 0.0]))
    assert pooled[0].tolist() == pytest.approx([first, 1 - first])


def test_attention_pool_is_scaled_dot_product_attention(images):
    query = torch.randn(4)
    positions = images.flatten(2).transpose(1, 2)
    queries = query.expand(2, 1, 4)
    expected = F.scaled_dot_product_attention(queries, positions, positions).squeeze(1)
    torch.testing.assert_close(attention_pool(images, query), expected)


def test_attention_starts_as_the_average_and_learns(images):
    encoder = PoolingEncoder(4, "attention")
    torch.testing.assert_close(encoder(images), images.mean(dim=(2, 3)))
    encoder(images).square().sum().backward()
    assert encoder.query.grad.abs().sum() > 0


def test_bad_values_are_refused():
    with pytest.raises(ConfigurationError, match="pool is 'maxx'; expected one of max, attention"):
        PoolingEncoder(4, "maxx")
    with pytest.raises(ConfigurationError, match="gem_p is 0; expected a number above 0"):
        PoolingEncoder(4, "gem", gem_p=0)
    with pytest.raises(ConfigurationError, match=r"gem_p is 4\.0, but pool is 'avg'"):
        PoolingEncoder(4, gem_p=4.0)
