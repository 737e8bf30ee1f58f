import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torch.nn import functional as F

from allencv.modules.im2im_encoders import ConvGroupsEncoder, Im2ImEncoder, WhiteningEncoder
from allencv.modules.im2im_encoders.whitening_encoder import patch_moments, whitening_filters
from tests.ranks import on_ranks

TINY = 1e-9


def some_images(count: int = 40, channels: int = 3) -> torch.Tensor:
    """Images whose neighbouring pixels and channels are correlated, with a mean that is not 0."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, channels, 13, 14, generator=generator)
    mixed = torch.einsum(
        "oi,bihw->bohw", torch.randn(channels, channels, generator=generator), noise
    )
    return F.avg_pool2d(mixed, 3, 1) + torch.arange(channels).view(-1, 1, 1)


def make(channels: int = 3, **arguments) -> WhiteningEncoder:
    kernel_size = arguments.get("kernel_size", 2)
    rest = ConvGroupsEncoder(widths=[4], input_channels=2 * channels * kernel_size**2)
    return WhiteningEncoder(rest, input_channels=channels, **arguments)


def whitened(encoder: WhiteningEncoder, images: torch.Tensor) -> torch.Tensor:
    """Return what the first half of the filters says about all patches: `(patches, size)`."""
    white = F.conv2d(images, encoder.filters, encoder.bias)
    return white.detach().double().transpose(0, 1).flatten(1)[: len(encoder.bias) // 2].T


@pytest.mark.parametrize(("channels", "kernel_size"), [(3, 2), (1, 3), (4, 1)])
def test_whitened_patches_have_mean_0_and_the_identity_as_covariance(channels, kernel_size):
    images = some_images(channels=channels)
    encoder = make(channels, kernel_size=kernel_size, eps=TINY)
    encoder.see_training_images(images.split(7))
    white = whitened(encoder, images)
    size = channels * kernel_size**2
    assert white.shape[1] == size
    assert white.mean(0).abs().max() < 1e-4
    covariance = torch.from_numpy(
        np.cov(white.numpy(), rowvar=False, bias=True).reshape(size, size)
    )
    torch.testing.assert_close(covariance, torch.eye(size).double(), atol=1e-3, rtol=0)


def test_the_other_half_is_the_negative():
    encoder = make()
    encoder.see_training_images([some_images()])
    for values in (encoder.filters, encoder.bias):
        first, second = values.detach().chunk(2)
        torch.testing.assert_close(first, -second)


def test_eps_limits_directions_without_variance():
    covariance = torch.diag(torch.tensor([4.0, 1.0, 0.0]).double())
    filters = whitening_filters(covariance, 0.25)
    expected = torch.tensor([4.25, 1.25, 0.25]).double().rsqrt()
    torch.testing.assert_close(filters.abs(), torch.diag(expected))


def test_moments_are_those_of_the_patches(monkeypatch):
    images = some_images(5)
    patches = images.double().unfold(2, 2, 1).unfold(3, 2, 1)
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    expected = (len(patches), patches.sum(0), patches.T @ patches)
    for at_a_time in (1, 1 << 23):
        module = "allencv.modules.im2im_encoders.whitening_encoder"
        monkeypatch.setattr(f"{module}.PATCH_NUMBERS", at_a_time)
        count, total, outer = patch_moments(images, 2)
        assert count == expected[0]
        torch.testing.assert_close(total, expected[1])
        torch.testing.assert_close(outer, expected[2])


def test_forward_by_hand():
    encoder = make(activation=torch.nn.ReLU())
    encoder.see_training_images([some_images()])
    images = some_images(2)
    white = F.conv2d(F.pad(images, (0, 1, 0, 1)), encoder.filters, encoder.bias)
    expected = encoder.eval().encoder(F.relu(white))
    torch.testing.assert_close(encoder(images), expected)
    assert not encoder.filters.requires_grad
    assert encoder.bias.requires_grad


def test_without_padding_the_map_is_smaller():
    encoder = make(padded=False, kernel_size=3).eval()
    assert encoder(torch.randn(1, 3, 10, 12)).shape == (1, 4, 4, 5)
    assert make(kernel_size=3).eval()(torch.randn(1, 3, 10, 12)).shape == (1, 4, 5, 6)


def test_training_without_images_is_refused_and_a_state_has_the_filters():
    encoder = make()
    assert encoder.num_training_images == 5000
    images = some_images()
    with pytest.raises(ConfigurationError, match="are not computed; expected training by 'allencv"):
        encoder(images)
    encoder.see_training_images([images])
    assert encoder.num_training_images == 0
    other = make()
    other.load_state_dict(encoder.state_dict())
    assert other.num_training_images == 0
    assert torch.equal(other(images), encoder(images))
    unlike = make()
    unlike.load_state_dict({"bias": encoder.bias}, strict=False)
    assert unlike.num_training_images == 5000


def filters_on_a_rank(images: torch.Tensor) -> torch.Tensor:
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    encoder = make()
    encoder.see_training_images([images[rank::ranks]])
    return encoder.filters


def test_ranks_compute_the_same_from_their_shares():
    encoder = make()
    encoder.see_training_images([some_images()])
    for filters in on_ranks(2, filters_on_a_rank, some_images()):
        # An eigenvector and its negative are as good.
        torch.testing.assert_close(filters.abs(), encoder.filters.abs(), atol=1e-4, rtol=1e-4)


def test_from_params_and_stages():
    inner = {"type": "conv_groups", "widths": [4, 6], "input_channels": 24}
    encoder = Im2ImEncoder.from_params(Params({"type": "whitening", "encoder": inner}))
    assert isinstance(encoder, WhiteningEncoder)
    assert (encoder.get_output_channels(), encoder.get_stride()) == (6, 4)
    assert encoder.get_stages() == [["bias", "encoder.groups.0"], ["encoder.groups.1"]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"kernel_size": 0}, "kernel_size is 0; expected at least 1"),
        ({"eps": 0}, "eps is 0; expected a number above 0"),
        ({"num_images": 0}, "num_images is 0; expected at least 1"),
        (
            {"kernel_size": 3},
            "gives its encoder 54 channels .*input_channels to 54",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, problem):
    with pytest.raises(ConfigurationError, match=problem):
        WhiteningEncoder(ConvGroupsEncoder(widths=[4], input_channels=24), **arguments)


def test_whitening_twice_is_refused():
    inner = make(24, kernel_size=1)
    with pytest.raises(ConfigurationError, match="WhiteningEncoder, which takes training images"):
        WhiteningEncoder(inner, input_channels=3, kernel_size=2)


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(ConfigurationError, match="saw no training image with a patch of 2 by 2"):
        make().see_training_images([])
