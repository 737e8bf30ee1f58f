import io
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


MIN_IS_WHITE, CMYK = 0, 5


def read(
    pixels: np.ndarray,
    value_range: Optional[Tuple[float, float]] = None,
    photometric: Optional[int] = None,
) -> Tuple[List[int], List[str]]:
    """The grey levels of a TIFF file, and what reading it warns of."""
    file = tiff(pixels[..., None] if pixels.ndim == 2 else pixels, photometric)
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
        ((RAMP * (2**32 - 1)).astype(np.uint32), (0, 2**32 - 1)),
        ((RAMP * 255 + 4e9).astype(np.uint32), (4_000_000_000, 4_000_000_255)),
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
    ("pixels", "value_range"),
    [
        ((RAMP * 255).astype(np.uint8), None),
        (BITS_16, None),
        (BITS_12, (0, 4095)),
        (FLOATS * 255, None),
        (FLOATS, (0, 1)),
    ],
)
def test_the_least_value_is_white_if_the_file_says_so(
    pixels: np.ndarray, value_range: Optional[Tuple[float, float]]
) -> None:
    upright, inverted = (
        np.array(read(pixels, value_range, photometric)[0]) for photometric in (1, MIN_IS_WHITE)
    )
    assert (inverted[0], inverted[-1]) == (255, 0)
    assert np.abs(255 - upright - inverted).max() <= 1


def test_a_tiff_file_is_turned_once() -> None:
    for pixels in (BITS_16 // 257).astype(np.uint8), BITS_16, FLOATS * 255:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "TIFF", tiffinfo={0x0112: 2})  # mirrored
        levels = read_image(file.getvalue(), "L").ravel()
        assert (levels[0], levels[-1]) == (255, 0)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (FLOATS, "floating point, with values from 0 to 1 where 0 to 255 is expected"),
        (FLOATS * 1000, "floating point, with values from 0 to 1000 where"),
        (BITS_12, "more than 8 bits, with values from 0 to 4095 where 0 to 65535 is expected"),
        (BITS_12 + 30000, "more than 8 bits, with values from 30000 to 34095 where"),
        (HOUNSFIELD, "more than 8 bits, with values from -1000 to 3000 where 0 to 65535"),
        (np.array([[np.nan, 100]], np.float32), "with values that are not numbers (NaN)"),
        (np.repeat(BITS_12[..., None], 3, axis=2), "16-bit colour, whose upper 8 bits have"),
        (np.array([[0, 4_294_967_295]], np.uint32), "with values from 0 to 4.29497e+09 where"),
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


@pytest.mark.parametrize(("bits", "count"), [(12, 1), (16, 0)])
def test_16_bit_cmyk_of_too_few_levels_is_warned_of(bits: int, count: int) -> None:
    pixels = np.zeros((1, 64, 4), np.uint16)
    pixels[..., 3] = RAMP * (2**bits - 1)  # black ink alone
    said = read(pixels, photometric=CMYK)[1]
    assert len(said) == count
    assert all("16-bit colour, whose upper 8 bits have only 16 levels" in s for s in said)


def test_transparency_is_no_level_of_16_bit_grey() -> None:
    image = Image.new("LA", (2, 1), (3, 255))
    image.putpixel((0, 0), (0, 0))
    assert "only 4 levels" in str(value_ranges.what_is_lost(image, True, None))


def test_what_is_no_number_is_black() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)
    assert read(values, (0, 1))[0] == [0, 0, 255, 128]


def test_a_range_cannot_be_applied_to_16_bit_colour() -> None:
    for bands, photometric in ((3, None), (4, None), (4, CMYK)):
        file = tiff(np.zeros((2, 2, bands), np.uint16), photometric)
        with pytest.raises(ImageError, match=r"16-bit colour, .* value_range \[0, 4095\] cannot"):
            read_image(file, "RGB", (0, 4095))


@pytest.mark.parametrize(
    "value_range",
    [
        (1, 0),
        (0, 0),
        (0,),
        (0, float("nan")),
        (0, float("inf")),
        "01",
        5,
        (False, True),
        (0, 10**400),
        (10**400, 10**400 + 1),
        (2**60, 2**60 + 1),  # one float
        (-1.7e308, 1.7e308),  # their difference is no float
        (0, 1e-310),
    ],
)
def test_what_is_no_range_is_refused(value_range: object) -> None:
    with pytest.raises(ValueError, match=r"value_range is .*; expected two numbers"):
        Preprocessing(8, 8, value_range=value_range)  # type: ignore[arg-type]


def test_preprocessing_applies_it() -> None:
    image = Image.fromarray(np.tile(BITS_12, (64, 1)))
    result = Preprocessing(64, 64, crop_ratio=1, color_mode="L", value_range=(0, 4095))(image)
    assert np.abs(result[5, :, 0] - RAMP[0] * 255).max() <= 0.6
