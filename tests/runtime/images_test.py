import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from allencv.runtime import ImageError, read_image, to_color_mode
from allencv.runtime import images as images_module

random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def test_path_bytes_image_and_array_give_the_same_pixels(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        (tmp_path / "a.png").read_bytes(),
        Image.fromarray(PIXELS),
        PIXELS,
    ):
        assert np.array_equal(read_image(source), PIXELS)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP", "PPM", "TGA"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    assert np.array_equal(read_image(encoded(Image.fromarray(PIXELS), format, **options)), PIXELS)


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(encoded(Image.fromarray(PIXELS), "PNG"))
    assert np.array_equal(read_image(tmp_path / "a.txt"), PIXELS)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.JPG", b"not read", True),
        ("a.avif", b"not read", True),
        ("a.heic", b"not read", True),  # it needs another package
        ("a.txt", encoded(Image.fromarray(PIXELS), "PNG"), True),
        ("a", encoded(Image.fromarray(PIXELS), "JPEG"), True),
        ("a.txt", b"text", False),
        ("jpg", b"", False),
        (".png", b"", False),
    ],
)
def test_images_are_told_apart_by_suffix_or_content(
    tmp_path: Path, name: str, content: bytes, expected: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    assert images_module.is_image(str(tmp_path / name)) is expected
    assert not images_module.is_image(str(tmp_path / "missing.txt"))
    opened = []

    def open_file(path: str) -> io.BytesIO:
        opened.append(path)
        return io.BytesIO(content)

    assert images_module.is_image(name, open_file) is expected
    assert opened == ([] if images_module.is_named_as_image(name) else [name])


def test_a_pipe_without_the_suffix_of_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not images_module.is_image(str(tmp_path / "pipe"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(read_image(data), expected)


def test_a_damaged_exif_block_does_no_harm() -> None:
    data = encoded(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0MM\0*garbage")
    assert read_image(data).shape == (20, 30, 3)


def test_grey_becomes_rgb_by_repetition() -> None:
    grey = PIXELS[:, :, 0]
    assert np.array_equal(read_image(grey), np.repeat(grey[:, :, None], 3, axis=2))
    assert np.array_equal(read_image(grey, "L"), grey[:, :, None])


def test_rgb_becomes_luma() -> None:
    luma = PIXELS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read_image(PIXELS, "L")[:, :, 0] - luma).max() <= 1


def test_transparency_is_laid_over_white() -> None:
    alpha = random.integers(0, 256, (20, 30, 1), dtype=np.uint8)
    rgba = Image.fromarray(np.concatenate([PIXELS, alpha], axis=2))
    share = alpha / 255
    expected = PIXELS * share + 255 * (1 - share)
    assert np.abs(read_image(rgba) - expected).max() <= 1
    assert np.array_equal(read_image(rgba, "RGBA")[:, :, 3:], alpha)


def test_a_transparent_palette_entry_is_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    data = encoded(palette, "PNG", transparency=1)
    assert read_image(data).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_palette_without_transparency_keeps_its_colours() -> None:
    data = encoded(Image.fromarray(PIXELS).quantize(8), "GIF")
    assert np.array_equal(read_image(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_sixteen_bits_keep_the_upper_eight() -> None:
    deep = random.integers(0, 65536, (20, 30), dtype=np.uint16)
    data = encoded(Image.fromarray(deep), "PNG")
    assert np.array_equal(read_image(data, "L")[:, :, 0], (deep >> 8).astype(np.uint8))
    integers = Image.fromarray(deep.astype(np.int32) * 2)
    assert np.array_equal(
        read_image(integers, "L")[:, :, 0], (np.clip(deep * 2.0, 0, 65535)).astype(int) >> 8
    )


def test_floats_are_taken_as_0_to_255() -> None:
    image = Image.fromarray(np.array([[-5.0, 0.4, 99.6, 300.0]], dtype=np.float32))
    assert read_image(image, "L").ravel().tolist() == [0, 0, 100, 255]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "1", "LA", "PA", "RGBX"])
def test_every_other_mode_is_read_as_each_colour_mode(mode: str) -> None:
    if mode in ("LA", "PA"):
        image = Image.fromarray(PIXELS).convert("L").convert(mode)
    elif mode == "LAB":
        image = Image.new("LAB", (30, 20), (50, 128, 128))
    else:
        image = Image.fromarray(PIXELS).convert(mode)
    for color_mode, channels in (("RGB", 3), ("L", 1), ("RGBA", 4)):
        assert read_image(image, color_mode).shape == (20, 30, channels)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty (0 bytes)"),
        (b"this is a text", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "cat.jpg").write_bytes(content)
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / "cat.jpg")
    assert reason in str(error.value)
    assert str(tmp_path / "cat.jpg") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 5, 3), (5, 0), (0, 0, 1)])
def test_an_image_without_pixels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"^image array: "):
        read_image(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match="^image: 0 x 5 pixels; expected at least 1 x 1"):
        read_image(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_a_truncated_file_is_refused(tmp_path: Path, format: str) -> None:
    data = encoded(Image.fromarray(np.tile(PIXELS, (20, 20, 1))), format)
    for share in (0.02, 0.3, 0.7):
        (tmp_path / "cut").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ImageError, match=r"/cut: "):
            read_image(tmp_path / "cut")


@pytest.mark.parametrize("source", [0, None, 1.5, io.BytesIO()])
def test_what_holds_no_image_is_refused(source: object) -> None:
    """Python would take a number for that of an open file, as 0 for the standard input."""
    with pytest.raises(ImageError, match=f"image: expected str, .*, not {type(source).__name__}"):
        read_image(source)  # type: ignore[arg-type]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere.jpg: No such file"):
        read_image(tmp_path / "nowhere.jpg")


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 10_000), (60_000, 60_000)])
def test_a_huge_image_is_refused_before_it_is_decoded(size: "tuple[int, int]") -> None:
    with pytest.raises(ImageError, match="more than 178,956,970 pixels"):
        read_image(png_header(*size))


def test_an_array_of_another_type_or_shape_is_refused() -> None:
    for array in (PIXELS.astype(np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)):
        with pytest.raises(ImageError, match=r"expected uint8 and \(height, width\)"):
            read_image(array)


def test_an_array_with_the_channels_first_is_told_apart() -> None:
    with pytest.raises(ImageError, match=r"shape \(3, 20, 30\), .* array.transpose\(1, 2, 0\)"):
        read_image(PIXELS.transpose(2, 0, 1))


def test_an_unknown_colour_mode_is_named() -> None:
    with pytest.raises(ValueError, match="color_mode 'BGR' is not one of"):
        to_color_mode(Image.fromarray(PIXELS), "BGR")


def test_formats_that_start_another_program_are_left_out() -> None:
    assert "EPS" not in images_module.FORMATS
    assert {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"} <= set(images_module.FORMATS)
