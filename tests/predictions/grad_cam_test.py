from typing import Any

import pytest
import torch

import allencv.plugin  # noqa: F401
from allencv.modules.im2im_encoders import (
    Im2ImEncoder,
    ResnetEncoder,
    SmallResnetEncoder,
    TimmEncoder,
    TorchvisionEncoder,
)
from allencv.predictions.grad_cam import grad_cam


def cam(encoder: Im2ImEncoder, images: torch.Tensor, head: torch.Tensor) -> Any:
    """Of a linear layer, whose weights are `head`, after the mean over the feature map."""
    height, width = images.shape[2:]
    return grad_cam(lambda: encoder(images).mean((2, 3)) @ head, encoder, (height, width))


def test_by_hand() -> None:
    """Worked out without hooks: the feature map is computed first, and the score from it."""
    torch.manual_seed(0)
    encoder = SmallResnetEncoder(widths=[8, 16], blocks=[1, 1]).eval()
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16 * 8 * 8, 3), torch.nn.Tanh())
    images = torch.randn(2, 3, 32, 32)
    features = encoder(images)
    assert features.shape == (2, 16, 8, 8)
    (gradients,) = torch.autograd.grad(head(features)[:, 1].sum(), features)
    expected = torch.einsum("bc,bchw->bhw", gradients.mean((2, 3)), features).clamp(min=0)
    expected = expected / expected.flatten(1).max(1).values[:, None, None]
    found = grad_cam(lambda: head(encoder(images))[:, 1], encoder, (32, 32))
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-6)
    assert found.amax((1, 2)).tolist() == [1, 1]


def test_an_encoder_that_pools_shows_what_it_pools() -> None:
    torch.manual_seed(0)
    pooled = ResnetEncoder("resnet18", weights=None).eval()
    whole = ResnetEncoder("resnet18", weights=None, pool=False).eval()
    whole.load_state_dict(pooled.state_dict())
    images, head = torch.randn(2, 3, 96, 64), torch.randn(512)
    found, expected = cam(pooled, images, head), cam(whole, images, head)
    assert found.shape == (2, 3, 2)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("pool", [True, False])
def test_patches_of_a_transformer(pool: bool) -> None:
    """The last block gives its class token alone to the score; those before it all patches."""
    torch.manual_seed(0)
    encoder = TimmEncoder(
        "test_vit",
        pretrained=False,
        pool=pool,
        image_size=[64, 96],
        timm_arguments={"global_pool": "token"} if pool else None,
    ).eval()
    images = torch.randn(2, 3, 64, 96)
    found = cam(encoder, images, torch.randn(encoder.get_output_channels()))
    assert found.shape == (2, 4, 6)
    if not pool:
        return
    blocks: Any = encoder.backbone.blocks
    tokens = []
    hook = blocks[-2].register_forward_hook(lambda module, inputs, output: tokens.append(output))
    torch.manual_seed(1)
    head = torch.randn(encoder.get_output_channels())
    score = (encoder(images).flatten(1) @ head).sum()
    hook.remove()
    (gradients,) = torch.autograd.grad(score, tokens[0])
    # Shape: (batch, patches, channels)
    patches, gradients = tokens[0][:, 1:], gradients[:, 1:]
    expected = (patches * gradients.mean(1, keepdim=True)).sum(-1).relu().view(2, 4, 6)
    expected = expected / expected.amax((1, 2), keepdim=True)
    assert torch.allclose(cam(encoder, images, head), expected, atol=1e-5)


@pytest.mark.parametrize(
    "encoder",
    [
        TimmEncoder("test_convnext", pretrained=False),
        TimmEncoder("test_efficientnet", pretrained=False),
        TorchvisionEncoder("mobilenet_v3_small", weights=None),
        TimmEncoder("test_resnet", pretrained=False, requires_grad=False),
    ],
    ids=["convnext", "efficientnet", "mobilenet", "frozen"],
)
def test_kinds_of_networks(encoder: Im2ImEncoder) -> None:
    encoder.eval()
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    found = cam(encoder, images, torch.randn(encoder.get_output_channels()))
    assert found.shape[0] == 2
    assert found.shape[1] == found.shape[2] > 1
    assert 0 <= found.min() <= found.max() <= 1
    # Nothing is left behind.
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert not any(module._forward_hooks for module in encoder.modules())


def test_channels_that_stand_last() -> None:
    torch.manual_seed(0)
    encoder = TorchvisionEncoder("swin_t", weights=None).eval()
    images, head = torch.randn(1, 3, 64, 96), torch.randn(768)
    assert cam(encoder, images, head).shape == (1, 2, 3)


def test_an_image_in_front_of_the_network_is_found() -> None:
    """A network that looks at brightness sees a white square where it is."""
    encoder = SmallResnetEncoder(widths=[8], blocks=[1]).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(0.1)
    images = torch.zeros(1, 3, 64, 64)
    images[:, :, 40:56, 8:24] = 1
    found = cam(encoder, images, torch.ones(8))[0]
    row, column = divmod(int(found.argmax()), found.shape[1])
    scale = 64 / found.shape[0]
    assert 40 <= row * scale < 56
    assert 8 <= column * scale < 24


def test_nothing_speaks_for_it() -> None:
    encoder = SmallResnetEncoder(widths=[8], blocks=[1]).eval()
    found = cam(encoder, torch.randn(1, 3, 32, 32), -torch.ones(8))
    assert not found.any()


def test_an_encoder_of_one_pixel() -> None:
    encoder = SmallResnetEncoder(widths=[8], blocks=[1]).eval()
    assert cam(encoder, torch.randn(1, 3, 2, 2), torch.ones(8)) is None
