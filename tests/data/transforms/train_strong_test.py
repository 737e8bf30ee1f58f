import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import InterpolationMode, v2

from allencv.data.transforms import ImageTransform, TrainStrong
from tests.data.transforms.train_light_test import make_image

BILINEAR = InterpolationMode.BILINEAR


@pytest.mark.parametrize(
    ("arguments", "augment"),
    [
        ({}, v2.TrivialAugmentWide(interpolation=BILINEAR)),
        ({"augmentation": "rand_augment"}, v2.RandAugment(interpolation=BILINEAR)),
    ],
)
def test_it_is_torchvisions_recipe(arguments: "dict[str, str]", augment: v2.Transform) -> None:
    ours = ImageTransform.from_params(Params({"type": "train_strong", "size": 16, **arguments}))
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(16),
            v2.RandomHorizontalFlip(),
            augment,
            v2.RandomErasing(p=0.1, value=117),
        ]
    )
    for seed in range(20):
        torch.manual_seed(seed)
        expected = theirs(make_image())
        torch.manual_seed(seed)
        assert torch.equal(ours(make_image()), expected)


def test_erasing() -> None:
    def erased(probability: float) -> bool:
        torch.manual_seed(0)
        image = TrainStrong(32, erasing_probability=probability)(make_image())
        return bool((image == 117).all(0).any())

    assert erased(1.0)
    assert not erased(0.0)


def test_a_wrong_augmentation_is_named() -> None:
    with pytest.raises(ConfigurationError, match="augmentation is 'randaugment'; expected one of"):
        TrainStrong(16, augmentation="randaugment")
