import pytest
import timm
import torch
from torch import nn

from allencv.modules.folded_norms import NORMS, with_folded_norms


def made_random(network: nn.Module) -> nn.Module:
    """Statistics and weights of normalisation that change something."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for each in (module.weight, module.bias, module.running_mean):
                nn.init.uniform_(each, 0.5, 1.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def count(network: nn.Module) -> int:
    return sum(type(each) in NORMS for each in network.modules())


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_networks_of_timm(name: str) -> None:
    network = made_random(timm.create_model(name, num_classes=0))
    images = torch.randn(2, *network.default_cfg["input_size"])
    before = count(network)
    folded = with_folded_norms(network, images[:1])
    assert count(network) == before  # it is a copy
    assert count(folded) == 0
    expected = network(images)
    torch.testing.assert_close(folded(images), expected, rtol=1e-4, atol=1e-4)


def test_the_order_in_memory_stays() -> None:
    network = made_random(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    network.to(memory_format=torch.channels_last)
    folded = with_folded_norms(network, torch.randn(1, 3, 8, 8))
    assert folded[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not folded[0].weight.is_contiguous()


class Other(nn.Conv2d):
    """A convolution that normalises its weights itself."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, self.weight / self.weight.norm(), self.bias)


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.convolution(images)
        return self.norm(output) + output


class Repeated(UsedTwice):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.norm(self.convolution(self.convolution(images)))


@pytest.mark.parametrize(
    "network",
    [
        UsedTwice(),
        Repeated(),
        nn.Sequential(Other(3, 3, 1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
    ],
    ids=["used twice", "repeated", "another convolution", "not its output"],
)
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    images = torch.randn(2, 3, 5, 5)
    expected = made_random(network)(images)
    folded = with_folded_norms(network, images)
    assert count(folded) == 1
    assert torch.equal(folded(images), expected)
