import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from allencv.data.transforms import random_source
from allencv.data.transforms.batch_boxes import draw_boxes
from allencv.data.transforms.batch_draws import BatchDraws

IMAGES = 2000
SIZES = [(9, 30), (224, 224), (375, 500)]


@pytest.mark.parametrize("size", SIZES)
def test_boxes_are_those_of_torchvision(size: "tuple[int, int]") -> None:
    height, width = size
    crop = v2.RandomResizedCrop(8, ratio=(0.5, 3.0))
    draws = BatchDraws(range(IMAGES))
    which = np.arange(0, IMAGES, 2)
    boxes = draw_boxes(
        draws, which, size, crop, lambda heights, widths: (heights <= height) & (widths <= width)
    )
    after = draws.shares()
    image = torch.empty((1, *size), device="meta")
    for number in range(20 if height < 100 else IMAGES):
        generator = torch.Generator().manual_seed(number)
        if number % 2 == 0:
            with random_source(generator):
                params = crop.make_params([image])
            found = dict(zip(("top", "left", "height", "width"), boxes[number // 2].tolist()))
            assert found == params or (found["top"] == -1 and params["height"] == height)
        assert after[number] == torch.rand(1, generator=generator).item()


def test_no_box_fits() -> None:
    draws = BatchDraws([3, 4])
    boxes = draw_boxes(
        draws, np.array([1]), (5, 5), v2.RandomErasing(), lambda heights, widths: heights < 0
    )
    assert boxes.tolist() == [[-1] * 4]
    generator = torch.Generator().manual_seed(4)
    torch.rand(20, generator=generator)  # ten areas and ratios
    assert draws.shares()[1] == torch.rand(1, generator=generator).item()
