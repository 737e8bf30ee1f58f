import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms import BatchTransform, CutMix


def test_two_images_by_hand() -> None:
    """The rectangle is drawn again here; it is what the images give each other."""
    height, width = 10, 16
    batch = torch.stack([torch.zeros(3, height, width), torch.ones(3, height, width)])
    cutmix = BatchTransform.from_params(Params({"type": "cutmix", "alpha": 1}))
    for seed in range(5):
        torch.manual_seed(seed)
        area = 1 - float(torch.distributions.Beta(1.0, 1.0).sample((1,)))
        column, row = int(torch.randint(width, (1,))), int(torch.randint(height, (1,)))
        half_width, half_height = (int(0.5 * math.sqrt(area) * side) for side in (width, height))
        expected = torch.zeros(height, width)
        top, left = max(row - half_height, 0), max(column - half_width, 0)
        expected[top : row + half_height, left : column + half_width] = 1
        given = expected.mean().item()

        torch.manual_seed(seed)
        images, shares = cutmix(batch, torch.tensor([0, 1]), 2)
        assert torch.equal(images[0], expected.expand(3, height, width))
        assert torch.equal(images[1], 1 - expected.expand(3, height, width))
        torch.testing.assert_close(shares, torch.tensor([[1 - given, given], [given, 1 - given]]))


def test_it_is_torchvisions() -> None:
    images, labels = torch.randn(5, 3, 6, 7), torch.tensor([0, 1, 2, 1, 0])
    for seed in range(5):
        torch.manual_seed(seed)
        expected = v2.CutMix(alpha=1.0, num_classes=4)(images, labels)
        torch.manual_seed(seed)
        result = CutMix()(images, labels, 4)
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])


@pytest.mark.parametrize("alpha", [0, -1.0])
def test_a_wrong_alpha_is_named(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match=f"cutmix.alpha is {alpha}; expected a number ab"):
        CutMix(alpha)
