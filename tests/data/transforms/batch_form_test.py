"""Each transform of a whole batch against the same transform of each image."""

from typing import List, Optional

import pytest
import torch
from torchvision.transforms import v2

from allencv.data.fields import ImageField
from allencv.data.transforms import (
    AlternatingFlip,
    ColorJitter,
    Cutout,
    ImageTransform,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    TrainLight,
    random_source,
)
from allencv.data.transforms.batch_draws import BatchDraws
from allencv.data.transforms.image_turn import ImageTurn, image_turn

HEIGHT, WIDTH = 7, 9
TRANSFORMS: List[ImageTransform] = [
    RandomCrop(5),
    RandomCrop([HEIGHT, WIDTH]),
    RandomCrop([4, WIDTH]),
    RandomCrop([HEIGHT, WIDTH], padding=4),
    RandomCrop(6, padding=[3, 1], fill=200),
    RandomCrop(6, padding=[0, 1, 2, 5], fill=0.5),
    RandomCrop(2, padding=12, fill=1),
    RandomCrop(3, padding=-1),
    RandomCrop(6, padding=3, padding_mode="reflect"),
    RandomCrop(6, padding=[1, 2, 3, 0], padding_mode="edge"),
    RandomCrop(6, padding=2, padding_mode="symmetric"),
    RandomCrop(6, padding=20, padding_mode="edge"),
    *(RandomHorizontalFlip(p=probability) for probability in (0.0, 0.5, 1.0)),
    RandomVerticalFlip(p=0.3),
    AlternatingFlip(),
    Cutout(),
    Cutout(9, 3, fill=7),
    Cutout(1, 20),
    Normalize([0.4], [0.3]),
    RandomErasing(),
    RandomErasing(p=1.0, scale=[0.3, 1.0], ratio=[0.9, 1.1], value=117),
    RandomErasing(p=1.0, scale=[1.0, 1.0], value=7),  # never fits
    RandomResizedCrop(5),
    RandomResizedCrop([4, 8], scale=[0.01, 3.0], ratio=[0.5, 1.5], interpolation="bicubic"),
    RandomResizedCrop(3, antialias=False),
    RandomResizedCrop(3, interpolation="nearest"),
    # None of these fits, but one in the middle.
    RandomResizedCrop(3, scale=[1.0, 1.0], ratio=[0.1, 0.2]),
    RandomResizedCrop(3, scale=[1.0, 1.0], ratio=[5.0, 6.0]),
    RandomResizedCrop(3, scale=[5.0, 6.0]),
]
COLORS = [
    ColorJitter(),
    ColorJitter(brightness=0.4, contrast=0.5, saturation=[0.2, 2.0], hue=0.5),
    ColorJitter(contrast=0.9),
    ColorJitter(brightness=2.0, hue=0.2),
]
IMAGES = {
    "decoded": torch.randint(256, (6, HEIGHT, WIDTH, 3), dtype=torch.uint8).permute(0, 3, 1, 2),
    "four channels": torch.randint(256, (5, HEIGHT, WIDTH, 4), dtype=torch.uint8).permute(
        0, 3, 1, 2
    ),
    "grey": torch.randint(256, (5, HEIGHT, WIDTH, 1), dtype=torch.uint8).permute(0, 3, 1, 2),
    "by channels": torch.randint(256, (40, 3, HEIGHT, WIDTH), dtype=torch.uint8),
    "grey by channels": torch.randint(256, (5, 1, HEIGHT, WIDTH), dtype=torch.uint8),
    "floats": torch.rand(5, HEIGHT, WIDTH, 3).permute(0, 3, 1, 2),
    "bfloat16": torch.rand(5, 3, HEIGHT, WIDTH).bfloat16(),
    "one": torch.randint(256, (1, HEIGHT, WIDTH, 3), dtype=torch.uint8).permute(0, 3, 1, 2),
}


def one_by_one(
    transform: ImageTransform, images: torch.Tensor, turns: List[Optional[ImageTurn]]
) -> torch.Tensor:
    transformed = []
    for seed, (image, turn) in enumerate(zip(images, turns)):
        with random_source(torch.Generator().manual_seed(seed)), image_turn(turn):
            transformed.append(transform(image.clone()))
    return ImageField(images[0]).batch_tensors(transformed)


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
def test_a_batch_is_that_of_each_image(transform: ImageTransform, kind: str) -> None:
    images = IMAGES[kind]
    assert transform.has_batch_form
    turns: List[Optional[ImageTurn]] = [ImageTurn(3, 1, number) for number in range(len(images))]
    expected = one_by_one(transform, images, turns)
    draws = BatchDraws(range(len(images)), turns)
    apply = transform.draw_batch(images, draws)
    assert apply is not None
    result = apply(images.clone())
    assert result.dtype == expected.dtype
    assert torch.equal(result, expected)
    assert (result.stride(1) == 1) == (expected.stride(1) == 1)


@pytest.mark.parametrize("kind", ["decoded", "grey", "by channels", "floats"])
@pytest.mark.parametrize("transform", COLORS, ids=str)
def test_colors_of_a_batch_are_those_of_each_image(transform: ImageTransform, kind: str) -> None:
    test_a_batch_is_that_of_each_image(transform, kind)


SIDE = 40
PHOTOS = v2.functional.resize(
    torch.randint(256, (60, 3, SIDE // 4, SIDE // 4), dtype=torch.uint8), [SIDE, SIDE + 8]
)


@pytest.mark.parametrize("is_float", [False, True])
@pytest.mark.parametrize(
    "transform",
    [
        *COLORS,
        RandomResizedCrop(28),
        RandomResizedCrop([50, 20], scale=[0.05, 0.4]),
        RandomResizedCrop(24, interpolation="bicubic"),
        RandomErasing(p=1.0, value=117),
        Cutout(2, 11),
    ],
    ids=str,
)
def test_on_a_device_the_batch_differs_by_rounding(
    transform: ImageTransform, is_float: bool
) -> None:
    """What is drawn for a device is applied to images in memory, as no device is at hand."""
    photos = PHOTOS.float() / 255 if is_float else PHOTOS
    expected = one_by_one(transform, photos, [None] * len(photos))
    apply = transform.draw_batch(photos.to("meta"), BatchDraws(range(len(photos))))
    assert apply is not None
    result = apply(photos.clone())
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    difference = (result.double() - expected.double()).abs() * (255 if is_float else 1)
    assert (difference > 1).double().mean() < 1e-4
    assert difference.mean() < 0.03
    assert expected.double().std() > 0.1  # else any batch would do


def test_what_comes_back_from_a_device() -> None:
    for crop in (
        RandomResizedCrop(9, interpolation="lanczos"),
        RandomResizedCrop(9, antialias=False),
    ):
        assert crop.draw_batch(PHOTOS.to("meta"), BatchDraws(range(60))) is None


def test_what_has_to_be_transformed_one_by_one() -> None:
    draws = BatchDraws(range(6))
    assert AlternatingFlip().draw_batch(IMAGES["decoded"], draws) is None  # whose turn is unknown
    assert RandomCrop(10).draw_batch(IMAGES["decoded"], draws) is None  # an error
    assert RandomCrop(10, pad_if_needed=True).draw_batch(IMAGES["decoded"], draws) is None
    assert RandomErasing(value="random").draw_batch(IMAGES["decoded"], draws) is None
    assert RandomErasing(value=[1, 2]).draw_batch(IMAGES["decoded"], draws) is None  # an error
    assert ColorJitter(0.3).draw_batch(IMAGES["four channels"], draws) is None  # an error
    assert draws.shares()[0] == torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
    assert not TrainLight(4).has_batch_form


def test_a_subclass_has_no_batch_form_of_its_own() -> None:
    class Doubled(RandomCrop):
        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return 2 * super().__call__(image)

    assert not Doubled(3).has_batch_form
