import copy
import io
import itertools
import pickle
import struct
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, Vocabulary
from allennlp.data.fields import LabelField, ListField
from PIL import Image, ImageOps

from allencv.data.fields import ImageBatch, ImageField, image_field
from allencv.data.fields.image_field import load_image
from allencv.data.transforms import EvalTransform
from allencv.data.transforms.image_transform import InTurn
from allencv.runtime import ImageError, read_image

random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (20, 30, 3), dtype=np.uint8)
# Shape: (channels, height, width)
TENSOR = torch.from_numpy(PIXELS).permute(2, 0, 1)


def encoded(image: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(height: int, width: int) -> Image.Image:
    """Noise and smooth parts: what a JPEG file blurs, and what it keeps."""
    coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height))).copy()
    noise = random.integers(0, 256, smooth.shape, dtype=np.uint8)
    return Image.fromarray(np.where(np.arange(width)[:, None] % 16 < 8, smooth, noise))


def same_pixels(tensor: torch.Tensor, array: np.ndarray) -> bool:
    """Whether `(channels, height, width)` and `(height, width, channels)` hold the same."""
    return tensor.dtype == torch.uint8 and np.array_equal(tensor.permute(1, 2, 0).numpy(), array)


# What an image can be made from.


def test_every_kind_of_source_gives_the_same_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        Image.open(path),
        Image.fromarray(PIXELS),
        PIXELS,
        TENSOR,
    ):
        tensor = ImageField(source).as_tensor({})
        assert tensor.shape == (3, 20, 30)
        assert same_pixels(tensor, PIXELS), type(source)


def test_an_array_without_channels_is_grey() -> None:
    grey = PIXELS[:, :, 0]
    assert ImageField(grey, color_mode="L").as_tensor({}).equal(torch.tensor(grey)[None])
    assert ImageField(grey).as_tensor({}).equal(torch.tensor(grey).expand(3, -1, -1))


def test_a_tensor_is_taken_as_it_is() -> None:
    for tensor in (
        TENSOR,
        TENSOR[:1],
        torch.randn(3, 4, 5),
        torch.randn(7, 4, 5),
        torch.randn(3, 4, 5, dtype=torch.float16),
    ):
        assert ImageField(tensor).as_tensor({}) is tensor


@pytest.mark.parametrize("tensor", [TENSOR.long(), TENSOR.bool(), TENSOR[0], TENSOR[None]])
def test_a_tensor_of_another_type_or_shape_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ImageError, match=r"expected uint8 or floating point and \(channels"):
        ImageField(tensor).as_tensor({})


def test_a_tensor_with_the_channels_last_is_told_apart() -> None:
    with pytest.raises(ImageError, match=r"shape \(20, 30, 3\), .* tensor.permute\(2, 0, 1\)"):
        ImageField(torch.zeros(20, 30, 3)).as_tensor({})


def test_the_value_range_is_applied() -> None:
    levels = np.linspace(0, 1, 30, dtype=np.float32)
    image = Image.fromarray(np.tile(levels, (20, 1)))
    tensor = ImageField(image, color_mode="L", value_range=(0, 1)).as_tensor({})
    assert same_pixels(tensor, read_image(image, "L", (0, 1)))
    assert tensor[0, 0].tolist() == np.rint(levels * 255).tolist()


@pytest.mark.parametrize(("color_mode", "channels"), [("RGB", 3), ("L", 1), ("RGBA", 4)])
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_the_color_mode_decides_the_channels(color_mode: str, channels: int, format: str) -> None:
    data = encoded(Image.fromarray(PIXELS), format)
    tensor = ImageField(data, color_mode=color_mode).as_tensor({})
    assert tensor.shape == (channels, 20, 30)
    assert same_pixels(tensor, read_image(data, color_mode))


def test_a_decoded_image_can_be_written_to() -> None:
    for format in ("JPEG", "PNG"):
        tensor = ImageField(encoded(Image.fromarray(PIXELS), format)).as_tensor({})
        assert (tensor.zero_() == 0).all()
    ImageField(PIXELS).as_tensor({}).zero_()
    assert PIXELS.any()


# When it is decoded.


def test_nothing_is_decoded_before_the_batch_is_made(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.jpg"
    field = ImageField(path)
    counter: Dict[str, Dict[str, int]] = {}
    field.count_vocab_items(counter)
    field.index(Vocabulary())
    assert counter == {}
    assert field.get_padding_lengths() == {}
    assert field.human_readable_repr() == str(path)
    assert str(path) in str(field)
    for copied in (pickle.loads(pickle.dumps(field)), copy.deepcopy(field), field.duplicate()):
        assert copied == field
        with pytest.raises(ImageError, match="nowhere.jpg: No such file"):
            copied.as_tensor({})


def test_the_transform_is_called_each_time() -> None:
    calls = itertools.count()
    field = ImageField(PIXELS, lambda image: image + next(calls))
    assert field.as_tensor({}).equal(TENSOR)
    assert field.as_tensor({}).equal(TENSOR + 1)


def test_decoded_is_done_once_and_for_all() -> None:
    calls = itertools.count()
    # It gives one channel where the colour mode has three.
    field = ImageField(PIXELS, lambda image: image[:1] + next(calls), padding_value=7).decoded()
    assert field.as_tensor({}).equal(TENSOR[:1])
    assert field.as_tensor({}).equal(TENSOR[:1])
    assert field.padding_value == 7


def test_an_error_in_a_transform_names_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)

    def fail(image: torch.Tensor) -> torch.Tensor:
        raise KeyError("mean")

    with pytest.raises(ImageError) as error:
        ImageField(path, fail).as_tensor({})
    assert str(error.value) == f"{path}: KeyError: 'mean'"
    assert isinstance(error.value.__cause__, KeyError)


# The fast way of JPEG files gives the same pixels.

SIZES = [(1, 1), (7, 9), (16, 16), (33, 17), (120, 161)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 95])
def test_a_plain_jpeg_is_read_as_read_image_does(
    size: "tuple[int, int]",
    subsampling: str,
    progressive: bool,
    quality: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(
        picture(*size), quality=quality, subsampling=subsampling, progressive=progressive
    )
    expected = read_image(data)
    monkeypatch.setattr(image_field, "read_image", None)  # the slow way is not taken,
    monkeypatch.setattr(image_field, "Image", None)  # and nothing else asked of pillow
    assert same_pixels(load_image(data), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("color_mode", ["RGB", "L"])
def test_a_grey_jpeg_is_read_as_read_image_does(
    size: "tuple[int, int]", color_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(picture(*size).convert("L"))
    expected = read_image(data, color_mode)
    monkeypatch.setattr(image_field, "read_image", None)
    assert same_pixels(load_image(data, color_mode), expected)


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    data = encoded(picture(20, 30), exif=with_exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert same_pixels(load_image(data), np.asarray(upright))
    assert same_pixels(load_image(data), read_image(data))


def test_exif_orientation_is_found_behind_other_metadata() -> None:
    # 100,000 bytes, which take two segments, in front of the EXIF block
    profile = bytes(100_000)
    data = encoded(picture(20, 30), icc_profile=profile)
    block = b"Exif\0\0" + with_exif(6).tobytes().removeprefix(b"Exif\0\0")
    start = data.index(b"\xff\xdb")  # the quantization tables
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    turned = data[:start] + segment + data[start:]
    assert load_image(turned).shape == (3, 30, 20)
    assert same_pixels(load_image(turned), read_image(turned))


def test_xmp_orientation_is_applied() -> None:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    data = encoded(picture(20, 30), xmp=xmp)
    assert load_image(data).shape == (3, 30, 20)
    assert same_pixels(load_image(data), read_image(data))


def test_a_thumbnail_inside_of_exif_does_no_harm() -> None:
    exif = with_exif(1)
    exif[0x9286] = encoded(picture(8, 8))  # a comment that holds a JPEG file
    data = encoded(picture(20, 30), exif=exif)
    assert same_pixels(load_image(data), read_image(data))


def test_cmyk_and_unconverted_rgb_are_read_as_read_image_does() -> None:
    for data in (
        encoded(picture(20, 30).convert("CMYK")),
        encoded(picture(20, 30), keep_rgb=True),
    ):
        assert same_pixels(load_image(data), read_image(data))


def test_the_first_picture_of_several_is_taken() -> None:
    data = encoded(picture(20, 30), "MPO", save_all=True, append_images=[picture(20, 30)])
    assert same_pixels(load_image(data), read_image(data))


# What cannot be read.


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.95])
def test_a_truncated_jpeg_is_refused(tmp_path: Path, progressive: bool, share: float) -> None:
    data = encoded(picture(200, 200), progressive=progressive)
    (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"/cut.jpg: "):
        ImageField(tmp_path / "cut.jpg").as_tensor({})


def test_a_jpeg_that_ends_before_its_pixels_is_refused() -> None:
    data = encoded(picture(20, 30))
    with pytest.raises(ImageError, match="image of .* bytes: "):
        load_image(data[: data.index(b"\xff\xda")])


def test_a_damaged_jpeg_is_treated_as_read_image_does(tmp_path: Path) -> None:
    def outcome(read: Callable[[Path], Any]) -> Any:
        try:
            return np.asarray(read(tmp_path / "odd.jpg")).tolist()
        except ImageError as error:
            return str(error)

    outcomes = set()
    for number in range(60):
        data = bytearray(encoded(picture(40, 40), progressive=bool(number % 2)))
        data[random.integers(2, len(data))] ^= 0xFF
        (tmp_path / "odd.jpg").write_bytes(data)
        expected = outcome(read_image)
        assert outcome(lambda path: load_image(path).permute(1, 2, 0)) == expected
        outcomes.add(type(expected))
    assert outcomes == {list, str}  # some can be read all the same


def test_a_jpeg_that_claims_to_be_huge_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simplejpeg.decode_jpeg", None)  # it does not come to that
    data = bytearray(encoded(picture(8, 8)))
    frame = data.index(b"\xff\xc0")  # marker, length, precision, height, width
    data[frame + 5 : frame + 9] = struct.pack(">HH", 40_000, 40_000)
    (tmp_path / "huge.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=r"/huge.jpg: more than 178,956,970 pixels"):
        ImageField(tmp_path / "huge.jpg").as_tensor({})


@pytest.mark.parametrize("content", [b"", b"this is a text", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=r"/a.jpg: "):
        ImageField(tmp_path / "a.jpg").as_tensor({})


# Batches.


@pytest.mark.parametrize(
    ("second", "memory_format"),
    [
        (ImageField(PIXELS + 1).as_tensor({}), torch.channels_last),
        ((TENSOR + 1).contiguous(), torch.contiguous_format),
    ],
)
def test_a_batch_is_stacked_and_contiguous(
    second: torch.Tensor, memory_format: torch.memory_format
) -> None:
    field = ImageField(PIXELS)
    batch = field.batch_tensors([field.as_tensor({}), second])
    assert batch.shape == (2, 3, 20, 30)
    assert batch.is_contiguous(memory_format=memory_format)
    assert batch.dtype == torch.uint8
    assert batch[0].equal(TENSOR)
    assert batch[1].equal(TENSOR + 1)


def test_unequal_sizes_are_padded_at_the_right_and_at_the_bottom() -> None:
    wide, high = torch.full((3, 2, 5), 1), torch.full((3, 4, 3), 2)
    batch = ImageField(PIXELS, padding_value=9).batch_tensors([wide, high])
    assert batch[:, 0].tolist() == [
        [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [9, 9, 9, 9, 9], [9, 9, 9, 9, 9]],
        [[2, 2, 2, 9, 9], [2, 2, 2, 9, 9], [2, 2, 2, 9, 9], [2, 2, 2, 9, 9]],
    ]
    floats = ImageField(PIXELS).batch_tensors([wide.float(), high.float()])
    assert floats.dtype == torch.float32
    assert floats[0, 0, 3, 4] == 0


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (TENSOR[:1], r"uint8 \[1\] and torch.uint8 \[3\]"),
        (TENSOR / 255, "float32.* and torch.uint8"),
    ],
)
def test_a_batch_of_unequal_kinds_is_refused(odd: torch.Tensor, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImageField(PIXELS).batch_tensors([TENSOR, odd])


def test_allennlps_batch_takes_it() -> None:
    instances = [
        Instance({"image": ImageField(PIXELS[:height]), "label": LabelField(label)})
        for height, label in ((20, "cat"), (10, "dog"), (20, "dog"))
    ]
    vocab = Vocabulary.from_instances(instances)
    batch = Batch(instances)
    batch.index_instances(vocab)
    tensors = batch.as_tensor_dict()
    assert tensors["image"].shape == (3, 3, 20, 30)
    assert tensors["image"][1, :, :10].equal(TENSOR[:, :10])
    assert not tensors["image"][1, :, 10:].any()
    assert tensors["label"].tolist() == [
        vocab.get_token_index(x, "labels") for x in ("cat", "dog", "dog")
    ]


def test_a_list_of_images_is_padded_with_empty_ones() -> None:
    lists = [ListField([ImageField(PIXELS)] * 2), ListField([ImageField(PIXELS[:, :8])])]
    tensors = Batch([Instance({"views": each}) for each in lists]).as_tensor_dict()
    # Shape: (batch, views, channels, height, width)
    assert tensors["views"].shape == (2, 2, 3, 20, 30)
    assert tensors["views"][0, 1].equal(TENSOR)
    assert tensors["views"][1, 0, :, :, :8].equal(TENSOR[:, :, :8])
    assert not tensors["views"][1, 1].any()


class Fetched:
    """What a reader of remote images makes: fetched when it is needed, and named."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self) -> bytes:
        return self.data

    def __str__(self) -> str:
        return "memory://cat.jpg"


def test_a_function_is_called_when_the_image_is_needed(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(tmp_path / "a.png")
    field = ImageField(Fetched((tmp_path / "a.png").read_bytes()))
    assert field.name == "memory://cat.jpg"
    assert (field.as_tensor({}) == 7).all()


def test_what_a_function_gives_is_named_by_it() -> None:
    with pytest.raises(ImageError, match=r"memory://cat.jpg: .*not an image"):
        ImageField(Fetched(b"text")).as_tensor({})


# Images in the memory of their batch.


def moved(batch: ImageBatch, place: int, image: torch.Tensor) -> ImageField:
    return ImageField(image, padding_value=3).moved_to(batch, place)


@pytest.mark.parametrize("image", [TENSOR, TENSOR.contiguous(), TENSOR.contiguous() / 7])
def test_images_put_together_are_the_batch(image: torch.Tensor) -> None:
    images = [image, image.flip(2).clone(memory_format=torch.preserve_format), image * 2]
    batch = ImageBatch(3)
    fields = [moved(batch, place, images[place]) for place in (2, 0, 1)]
    fields = [fields[1], fields[2], fields[0]]
    tensors = [field.as_tensor({}) for field in fields]
    together = fields[0].batch_tensors(tensors)
    expected = ImageField(image).batch_tensors(images)
    assert together.equal(expected)
    assert together.stride() == expected.stride()
    assert together.dtype == image.dtype
    assert together.data_ptr() == tensors[0].data_ptr(), "nothing has been copied again"
    images[0].zero_()
    assert together.equal(expected), "the source has been copied"


def test_a_batch_of_which_some_are_missing_or_unlike_is_made_as_ever() -> None:
    batch = ImageBatch(3)
    fields = [moved(batch, place, TENSOR) for place in (0, 2)]
    tensors = [field.as_tensor({}) for field in fields]
    assert batch.made_of(tensors) is None
    assert fields[0].batch_tensors(tensors).equal(torch.stack([TENSOR, TENSOR]))
    # Shape, type or layout: what differs stays what it was.
    for unlike in (TENSOR[:, 1:], TENSOR.float(), TENSOR.contiguous(), TENSOR[None]):
        assert batch.put(1, unlike) is unlike
    padded = moved(batch, 1, TENSOR[:, 1:])
    tensors.insert(1, padded.as_tensor({}))
    result = fields[0].batch_tensors(tensors)
    assert result[1, :, :-1].equal(TENSOR[:, 1:])
    assert result[1, :, -1].eq(3).all()
    # A layout of several kinds is that of none, whichever image came first.
    for first, second in ((TENSOR, TENSOR.contiguous()), (TENSOR.contiguous(), TENSOR)):
        batch = ImageBatch(2)
        fields = [moved(batch, 0, first), moved(batch, 1, second)]
        result = fields[0].batch_tensors([field.as_tensor({}) for field in fields])
        assert result.is_contiguous()
        assert result.equal(torch.stack([TENSOR, TENSOR]))


def test_images_of_another_batch_are_not_taken_for_this_one() -> None:
    batches = [ImageBatch(2), ImageBatch(2)]
    fields = [moved(batch, place, TENSOR) for batch in batches for place in range(2)]
    tensors = [field.as_tensor({}) for field in fields]
    assert batches[0].made_of(tensors[2:]) is None
    assert batches[0].made_of([tensors[1], tensors[0]]) is None
    assert batches[0].made_of(tensors) is None
    assert batches[0].made_of(tensors[:2]) is not None


def test_the_text_says_what_is_done_to_an_image() -> None:
    def list_of(*sizes: int) -> InTurn:
        return InTurn([EvalTransform(size) for size in sizes])

    applied = list_of(8)
    applied(torch.zeros(3, 9, 9, dtype=torch.uint8))
    same = [ImageField(b"a", list_of(8)), ImageField("b.png", list_of(8)), ImageField(b"", applied)]
    assert len({field.preprocessing_text() for field in same}) == 1
    others = [
        ImageField(b"a", list_of(9)),
        ImageField(b"a", list_of(8, 8)),
        ImageField(b"a"),
        ImageField(b"a", list_of(8), "L"),
        ImageField(b"a", list_of(8), value_range=(0, 1)),
    ]
    assert len({field.preprocessing_text() for field in [*same, *others]}) == 1 + len(others)
