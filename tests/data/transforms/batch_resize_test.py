import numpy as np
import pytest
import torch
from torch.nn import functional as F

from allencv.data.transforms.batch_resize import FILTERS, resized_parts

BOXES = np.array([[0, 0, 20, 30], [3, 5, 10, 10], [19, 2, 1, 28], [0, 29, 20, 1], [4, 4, 6, 13]])


@pytest.mark.parametrize("size", [(7, 9), (31, 12)])
@pytest.mark.parametrize("interpolation", FILTERS)
def test_floats_are_those_of_torch(interpolation: str, size: "tuple[int, int]") -> None:
    images = torch.rand(len(BOXES), 2, 20, 30)
    result = resized_parts(images, BOXES, size, interpolation)
    for image, found, (top, left, height, width) in zip(images, result, BOXES.tolist()):
        part = image[None, :, top : top + height, left : left + width]
        (expected,) = F.interpolate(part, size, mode=interpolation, antialias=True)
        assert torch.allclose(found, expected, atol=1e-5)


def test_one_pixel_gives_all_and_values_stay_in_range() -> None:
    images = torch.tensor([[[[0, 255], [255, 0]]]], dtype=torch.uint8)
    one = resized_parts(images, np.array([[0, 1, 1, 1]]), (3, 2), "bicubic")
    assert one.tolist() == [[[[255, 255]] * 3]]
    larger = resized_parts(images, np.array([[0, 0, 2, 2]]), (8, 8), "bicubic")
    assert larger.dtype == torch.uint8
    assert (larger.min(), larger.max()) == (0, 255)  # the filter overshoots
