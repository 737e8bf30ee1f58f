from typing import Tuple

import numpy as np
import pytest
import torchvision.transforms as T
from PIL import Image, ImageOps

from allencv.runtime import Preprocessing

random = np.random.default_rng(0)


def picture(width: int, height: int) -> np.ndarray:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


SIZES = [(500, 375), (375, 500), (64, 64), (30, 20), (257, 1000), (1, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("target", "ratio"), [(224, 0.875), (64, 1.0), (96, 0.95)])
def test_crop_is_torchvisions_resize_and_center_crop(
    size: Tuple[int, int], target: int, ratio: float
) -> None:
    array = picture(*size)
    reference = T.Compose([T.Resize(int(target / ratio)), T.CenterCrop(target)])
    expected = np.asarray(reference(Image.fromarray(array)))
    assert np.array_equal(Preprocessing(target, target, crop_ratio=ratio)(array), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_stretch_is_pillows_resize(size: Tuple[int, int], name: str) -> None:
    array = picture(*size)
    expected = Image.fromarray(array).resize((50, 40), Image.Resampling[name.upper()])
    result = Preprocessing(40, 50, fit="stretch", interpolation=name)(array)
    assert np.array_equal(result, np.asarray(expected))


@pytest.mark.parametrize("size", SIZES)
def test_pad_keeps_the_shape_and_centres_on_black(size: Tuple[int, int]) -> None:
    array = picture(*size)
    result = Preprocessing(48, 64, fit="pad")(array)
    expected = ImageOps.pad(Image.fromarray(array), (64, 48), Image.Resampling.BILINEAR)
    assert result.shape == (48, 64, 3)
    # pillow rounds the half pixel of an uneven margin its own way: compare what is not margin
    content = result.any(axis=2)
    assert abs(int(content.sum()) - int(np.asarray(expected).any(axis=2).sum())) <= 64


def test_grey_keeps_its_one_channel() -> None:
    assert Preprocessing(24, 24, color_mode="L")(picture(40, 30)).shape == (24, 24, 1)


def test_crop_of_a_rectangle_fills_it() -> None:
    result = Preprocessing(30, 60, crop_ratio=1.0)(np.full((90, 90, 3), 200, np.uint8))
    assert result.shape == (30, 60, 3)
    assert (result == 200).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0, "width": 8}, "height is 0; expected 1 to 8192 pixels"),
        ({"height": 8, "width": 8.5}, "width is 8.5; expected"),
        ({"height": 8193, "width": 8}, "height is 8193; expected 1 to 8192 pixels"),
        ({"height": 8, "width": 200_000}, "width is 200000; expected 1 to 8192 pixels"),
        (
            {"height": 8, "width": 200, "crop_ratio": 0.001},
            "crop_ratio is 0.001, which resizes an image to 200,000 pixels .* at most 8192",
        ),
        (
            {"height": 16, "width": 16, "crop_ratio": 0.001},
            "crop_ratio is 0.001, which resizes an image to 16,000 pixels .* at most 8192",
        ),
        ({"height": 8, "width": 8, "fit": "zoom"}, "fit is 'zoom'; expected one of"),
        ({"height": 8, "width": 8, "crop_ratio": 1.5}, r"crop_ratio is 1.5; expected"),
        ({"height": 8, "width": 8, "interpolation": "cubic"}, "interpolation is 'cubic'"),
        ({"height": 8, "width": 8, "color_mode": "BGR"}, "color_mode is 'BGR'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocessing(**arguments)


def test_the_largest_image_is_allowed() -> None:
    assert Preprocessing(8192, 8192, crop_ratio=1.0).width == 8192
    assert Preprocessing(8, 8, crop_ratio=8 / 8192).width == 8
    assert Preprocessing(8, 200, "pad", crop_ratio=0.001).width == 200  # which does not crop
