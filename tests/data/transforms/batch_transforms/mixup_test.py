import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms.batch_transforms import BatchTransform, MixUp

IMAGES = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
LABELS = torch.tensor([0, 2])


def test_two_images_by_hand() -> None:
    mixup = BatchTransform.from_params(Params({"type": "mixup", "alpha": 1}))
    torch.manual_seed(1)
    share = float(torch.distributions.Beta(1.0, 1.0).sample((1,)))
    torch.manual_seed(1)
    images, shares = mixup(IMAGES, LABELS, 3)
    assert 0.05 < share < 0.95
    expected = torch.tensor([[share, 0, 1 - share], [1 - share, 0, share]])
    torch.testing.assert_close(shares, expected)
    for image, own in zip(images, (share, 1 - share)):
        torch.testing.assert_close(image, torch.full((1, 2, 2), own * 1 + (1 - own) * 3))


def test_it_is_torchvisions() -> None:
    images, labels = torch.randn(5, 3, 6, 7), torch.tensor([0, 1, 2, 1, 0])
    for seed in range(5):
        torch.manual_seed(seed)
        expected = v2.MixUp(alpha=0.2, num_classes=4)(images, labels)
        torch.manual_seed(seed)
        result = MixUp()(images, labels, 4)
        assert torch.equal(result[0], expected[0])
        assert torch.equal(result[1], expected[1])


@pytest.mark.parametrize("alpha", [0, -1.0])
def test_a_wrong_alpha_is_named(alpha: float) -> None:
    with pytest.raises(ConfigurationError, match=f"mixup.alpha is {alpha}; expected a number abo"):
        MixUp(alpha)
