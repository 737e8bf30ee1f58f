"""Each transform of a whole batch against the same transform of each image."""

from typing import List, Optional

import pytest
import torch

from allencv.data.fields import ImageField
from allencv.data.transforms import (
    AlternatingFlip,
    Cutout,
    ImageTransform,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
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


def test_what_has_to_be_transformed_one_by_one() -> None:
    draws = BatchDraws(range(6))
    assert AlternatingFlip().draw_batch(IMAGES["decoded"], draws) is None  # whose turn is unknown
    assert RandomCrop(10).draw_batch(IMAGES["decoded"], draws) is None  # an error
    assert RandomCrop(10, pad_if_needed=True).draw_batch(IMAGES["decoded"], draws) is None
    assert draws.shares()[0] == torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
    assert not TrainLight(4).has_batch_form


def test_a_subclass_has_no_batch_form_of_its_own() -> None:
    class Doubled(RandomCrop):
        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            return 2 * super().__call__(image)

    assert not Doubled(3).has_batch_form
