import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from torchvision.transforms import v2

from allencv.data.transforms import ImageTransform, TrainLight


def make_image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (24, 32, 3), generator=generator).to(torch.uint8).permute(2, 0, 1)


def test_it_is_torchvisions_crop_and_flip() -> None:
    ours = ImageTransform.from_params(Params({"type": "train_light", "size": 16}))
    theirs = v2.Compose([v2.RandomResizedCrop(16, antialias=True), v2.RandomHorizontalFlip()])
    for seed in range(5):
        torch.manual_seed(seed)
        expected = theirs(make_image())
        torch.manual_seed(seed)
        assert torch.equal(ours(make_image()), expected)


def test_arguments() -> None:
    whole = TrainLight([12, 20], scale=[1.0, 1.0], flip_probability=1.0, interpolation="nearest")
    assert whole(make_image()).shape == (3, 12, 20)
    plain, mirrored = (
        TrainLight(16, [0.3, 0.5], flip_probability=probability, interpolation="bicubic")
        for probability in (0.0, 1.0)
    )
    torch.manual_seed(0)
    expected = plain(make_image()).flip(-1)
    torch.manual_seed(0)
    assert torch.equal(mirrored(make_image()), expected)


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="random_resized_crop.interpolation is 'cubic'"):
        TrainLight(16, interpolation="cubic")
    with pytest.raises(ConfigurationError, match="random_horizontal_flip cannot be made with"):
        TrainLight(16, flip_probability=2.0)
