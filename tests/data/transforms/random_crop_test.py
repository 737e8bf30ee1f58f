from typing import Any, Dict

import pytest
import torch
from torchvision.transforms import v2

from allencv.data.transforms import (
    RandomCrop,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    random_source,
)

HEIGHT, WIDTH = 7, 9
CONFIGS: Dict[str, Dict[str, Any]] = {
    "inside": {"size": 5},
    "the whole": {"size": [HEIGHT, WIDTH]},
    "rows only": {"size": [4, WIDTH]},
    "padded": {"size": [HEIGHT, WIDTH], "padding": 4},
    "two sides": {"size": 6, "padding": [3, 1], "fill": 200},
    "four sides": {"size": 6, "padding": [0, 1, 2, 5], "fill": 7},
    "beyond the image": {"size": 2, "padding": 12, "fill": 1},
    "negative": {"size": 3, "padding": -1},
    "one value per channel": {"size": 6, "padding": 2, "fill": [1, 2, 3]},
    "no whole number": {"size": 6, "padding": 2, "fill": 0.5},
    "reflected": {"size": 6, "padding": 3, "padding_mode": "reflect"},
    "if needed": {"size": 12, "pad_if_needed": True, "fill": 9},
}
IMAGES = {
    "decoded": torch.randint(256, (HEIGHT, WIDTH, 3), dtype=torch.uint8).permute(2, 0, 1),
    "four channels": torch.randint(256, (HEIGHT, WIDTH, 4), dtype=torch.uint8).permute(2, 0, 1),
    "grey": torch.randint(256, (HEIGHT, WIDTH, 1), dtype=torch.uint8).permute(2, 0, 1),
    "rows of channels": torch.randint(256, (3, HEIGHT, WIDTH), dtype=torch.uint8),
    "floats": torch.rand(HEIGHT, WIDTH, 3).permute(2, 0, 1),
    "a view": torch.randint(256, (20, 20, 3), dtype=torch.uint8).permute(2, 0, 1)[:, 2:9, 3:12],
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", CONFIGS)
def test_crops_are_those_of_torchvision(name: str, kind: str) -> None:
    if name == "one value per channel" and IMAGES[kind].shape[0] != 3:
        return
    image, before = IMAGES[kind], IMAGES[kind].clone()
    ours, theirs = RandomCrop(**CONFIGS[name]), v2.RandomCrop(**CONFIGS[name])
    for seed in range(20):
        with random_source(torch.Generator().manual_seed(seed)):
            result, following = ours(image), torch.rand(2)
        torch.manual_seed(seed)
        expected = theirs(image)
        assert torch.equal(result, expected)
        assert result.dtype == expected.dtype
        assert (result.stride(0) == 1) == (expected.stride(0) == 1)
        assert torch.equal(following, torch.rand(2))  # as many draws
    assert torch.equal(image, before)


def test_a_crop_larger_than_the_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="larger than"):
        RandomCrop(10)(IMAGES["decoded"])


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.7, 1.0])
def test_flips_are_those_of_torchvision(probability: float) -> None:
    pairs = (
        (RandomHorizontalFlip(p=probability), v2.RandomHorizontalFlip(p=probability)),
        (RandomVerticalFlip(p=probability), v2.RandomVerticalFlip(p=probability)),
    )
    for seed in range(20):
        for ours, theirs in pairs:
            with random_source(torch.Generator().manual_seed(seed)):
                result = ours(IMAGES["decoded"])
            torch.manual_seed(seed)
            assert torch.equal(result, theirs(IMAGES["decoded"]))
