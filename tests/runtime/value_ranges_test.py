import warnings
from typing import Iterator, List, Optional, Tuple

import numpy as np
import pytest
from PIL import Image

from allencv.runtime import ImageError, Preprocessing, read_image, value_ranges
from allencv.runtime.value_ranges import ValueRangeWarning
from tests.tiff_files import tiff

# Shape: (1, 64)
RAMP = np.linspace(0, 1, 64)[None]
FLOATS, BITS_12, BITS_16 = (
    RAMP.astype(np.float32),
    (RAMP * 4095).astype(np.uint16),
    (RAMP * 65535).astype(np.uint16),
)
HOUNSFIELD = (RAMP * 4000 - 1000).astype(np.int16)


@pytest.fixture(autouse=True)
def nothing_has_been_warned_of() -> Iterator[None]:
    value_ranges._warned.clear()
    yield
    value_ranges._warned.clear()


def read(
    pixels: np.ndarray, value_range: Optional[Tuple[float, float]] = None
) -> Tuple[List[int], List[str]]:
    """The grey levels of a TIFF file, and what reading it warns of."""
    file = tiff(pixels[..., None] if pixels.ndim == 2 else pixels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        levels = read_image(file, "L", value_range).ravel().tolist()
    assert all(each.category is ValueRangeWarning for each in caught)
    return levels, [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("pixels", "value_range"),
    [
        (FLOATS, (0, 1)),
        (FLOATS, (0.25, 0.75)),
        (BITS_12, (0, 4095)),
        (BITS_16, (0, 65535)),
        (HOUNSFIELD, (-1000, 1000)),
        (HOUNSFIELD.astype(np.int32) * 1000, (-1e6, 3e6)),
        ((RAMP * 255 - 128).astype(np.int8), (-128, 127)),
    ],
)
def test_a_value_range_is_mapped_to_0_to_255(
    pixels: np.ndarray, value_range: Tuple[float, float]
) -> None:
    black, white = value_range
    expected = np.interp(pixels[0].astype(float), [black, white], [0, 255])
    levels, said = read(pixels, value_range)
    assert np.abs(levels - expected).max() <= 0.5
    assert said == []


def test_eight_bits_stay_as_they_are() -> None:
    levels = np.arange(64, dtype=np.uint8)[None]
    assert read(levels, (0, 4095)) == (levels[0].tolist(), [])


def test_signed_bytes_are_read_as_signed() -> None:
    assert read(np.array([[-128, -1, 0, 127]], np.int8)) == ([0, 127, 128, 255], [])


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (FLOATS, "floating point, with values from 0 to 1 where 0 to 255 is expected"),
        (FLOATS * 1000, "floating point, with values from 0 to 1000 where"),
        (BITS_12, "more than 8 bits, with values from 0 to 4095 where 0 to 65535 is expected"),
        (BITS_12 + 30000, "more than 8 bits, with values from 30000 to 34095 where"),
        (HOUNSFIELD, "more than 8 bits, with values from -1000 to 3000 where 0 to 65535"),
        (np.array([[np.nan, 100]], np.float32), "with values that are not numbers (NaN)"),
        (np.repeat(BITS_12[..., None], 3, axis=2), "16-bit colour, whose upper 8 bits hold no"),
    ],
)
def test_the_first_image_of_a_kind_is_warned_of(pixels: np.ndarray, said: str) -> None:
    (warning,) = read(pixels)[1]
    assert warning.startswith("image of ")
    assert said in warning
    assert read(pixels)[1] == []


@pytest.mark.parametrize(
    ("pixels", "suggested"),
    [(FLOATS, "[0, 1]"), (FLOATS - 0.5, "[-0.5, 0.5]"), (BITS_12, "[0, 4095]")],
)
def test_the_warning_suggests_a_range(pixels: np.ndarray, suggested: str) -> None:
    (warning,) = read(pixels)[1]
    assert f"set dataset_reader.value_range, such as {suggested}." in warning


@pytest.mark.parametrize(
    "pixels",
    [
        BITS_16,
        FLOATS * 255,
        np.full((1, 4), 1000, np.uint16),  # one level stays one level
        np.repeat(BITS_16[..., None], 3, axis=2),
    ],
)
def test_an_image_that_loses_nothing_is_not_warned_of(pixels: np.ndarray) -> None:
    assert read(pixels)[1] == []


def test_what_is_no_number_is_black() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)
    assert read(values, (0, 1))[0] == [0, 0, 255, 128]


def test_a_range_cannot_be_applied_to_16_bit_colour() -> None:
    pixels = np.zeros((2, 2, 3), np.uint16)
    with pytest.raises(ImageError, match=r"16-bit colour, .* value_range \[0, 4095\] cannot be"):
        read_image(tiff(pixels), "RGB", (0, 4095))


@pytest.mark.parametrize(
    "value_range", [(1, 0), (0, 0), (0,), (0, float("nan")), "01", 5, (False, True)]
)
def test_what_is_no_range_is_refused(value_range: object) -> None:
    with pytest.raises(ValueError, match=r"value_range is .*; expected two numbers"):
        Preprocessing(8, 8, value_range=value_range)  # type: ignore[arg-type]


def test_preprocessing_applies_it() -> None:
    image = Image.fromarray(np.tile(BITS_12, (64, 1)))
    result = Preprocessing(64, 64, crop_ratio=1, color_mode="L", value_range=(0, 4095))(image)
    assert np.abs(result[5, :, 0] - RAMP[0] * 255).max() <= 0.6
