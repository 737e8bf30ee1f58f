import io
from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image
from torchvision.transforms import v2

from allencv.data.fields import ImageField, image_field
from allencv.data.transforms import (
    ImageTransform,
    RandomResizedCrop,
    TrainLight,
    TrainStrong,
    random_source,
)
from allencv.data.transforms.image_transform import InTurn


def photograph(height: int, width: int, format: str = "JPEG", **options: Any) -> bytes:
    """Smooth colours with some edges, as photographs have them."""
    random = np.random.default_rng(0)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 90), (16, 40), (60, 15)):
        coarse = random.normal(0, strength, (cells, cells, 3)).clip(-127, 127) + 128
        image = Image.fromarray(coarse.astype(np.uint8)).resize((width, height), 3)
        pixels += np.asarray(image, np.float32) - 128
    file = io.BytesIO()
    Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8)).save(file, format, **options)
    return file.getvalue()


def field(source: Any, *transforms: ImageTransform) -> ImageField:
    return ImageField(source, InTurn(list(transforms)))


def drawn(field: ImageField, seed: int) -> torch.Tensor:
    with random_source(torch.Generator().manual_seed(seed)):
        return field.as_tensor({})


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """The shapes that images have been decoded to."""
    decoded: List[Any] = []
    load_image = image_field.load_image

    def load(*arguments: Any) -> torch.Tensor:
        image = load_image(*arguments)
        decoded.append(tuple(image.shape[1:]))
        return image

    monkeypatch.setattr(image_field, "load_image", load)
    return decoded


def test_it_is_torchvisions() -> None:
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8)
    arguments = {"size": [8, 12], "scale": [0.2, 0.9], "ratio": [0.5, 2.0]}
    ours = ImageTransform.from_params(Params({"type": "random_resized_crop", **arguments}))
    theirs = v2.RandomResizedCrop(**arguments)
    for seed in range(10):
        torch.manual_seed(seed)
        expected = theirs(image)
        with random_source(torch.Generator().manual_seed(seed)):
            assert ours(image).equal(expected)


def test_dct_scaling_is_off_unless_asked_for(shapes: List[Any]) -> None:
    drawn(field(photograph(200, 300), RandomResizedCrop(16)), 0)
    assert shapes == [(200, 300)]


@pytest.mark.parametrize(
    ("scale", "shape"),
    [
        ([0.5, 0.5], (25, 38)),  # a crop of 173 pixels for 16: an eighth
        ([0.2, 0.2], (50, 75)),  # of 110: a quarter
        ([0.05, 0.05], (100, 150)),  # of 55: a half
        ([0.01, 0.01], (200, 300)),  # of 24: the whole
    ],
)
def test_it_decodes_no_more_than_the_crop_needs(
    shapes: List[Any], scale: List[float], shape: Any
) -> None:
    crop = RandomResizedCrop(16, scale=scale, ratio=[1.0, 1.0], dct_scaling=True)
    assert drawn(field(photograph(200, 300), crop), 3).shape == (3, 16, 16)
    assert shapes == [shape]


def test_where_nothing_is_scaled_the_pixels_are_the_same() -> None:
    source = photograph(60, 80)
    for seed in range(5):
        whole, scaled = (
            drawn(field(source, RandomResizedCrop(40, dct_scaling=on), TrainLight(32)), seed)
            for on in (False, True)
        )
        assert whole.equal(scaled)


def test_scaled_pixels_are_nearly_those_of_the_whole_image() -> None:
    """Nearly those of a crop whose edges lie at multiples of what the image was scaled down by."""
    source = photograph(375, 500, quality=90)
    whole = image_field.load_image(source)
    differences = []
    for seed in range(20):
        scaled = drawn(field(source, RandomResizedCrop(48, dct_scaling=True)), seed)
        with random_source(torch.Generator().manual_seed(seed)):
            crop = v2.RandomResizedCrop(48).make_params([whole])
        shortest = min(crop["height"], crop["width"]) / 48
        shrink = max(each for each in (1, 2, 4, 8) if each <= shortest)
        top, left, height, width = (
            shrink * round(crop[key] / shrink) for key in ("top", "left", "height", "width")
        )
        part = whole[:, top : top + height, left : left + width]
        expected = v2.functional.resize(part, [48, 48], antialias=True)
        differences.append((expected.float() - scaled.float()).abs().mean().item())
    assert 0 < np.mean(differences) < 1.5  # of 255
    assert max(differences) < 3


@pytest.mark.parametrize("transform", [TrainLight, TrainStrong])
def test_the_presets_scale(shapes: List[Any], transform: Any) -> None:
    source = photograph(200, 300)
    image = drawn(field(source, transform(16, scale=[0.9, 1.0])), 1)
    assert image.shape == (3, 16, 16)
    drawn(field(source, transform(16, scale=[0.9, 1.0], dct_scaling=False)), 1)
    assert shapes == [(25, 38), (200, 300)]


def test_what_follows_draws_the_same() -> None:
    """The crop is drawn earlier, but not in another order."""
    source = photograph(200, 300)
    flip = ImageTransform.by_name("random_horizontal_flip")()
    for seed in range(6):
        crops = [
            RandomResizedCrop(16, scale=[1, 1], ratio=[1.5, 1.5], dct_scaling=on)
            for on in (False, True)
        ]
        whole, scaled = (drawn(field(source, crop, flip), seed) for crop in crops)
        assert (whole.float() - scaled.float()).abs().mean() < 3


@pytest.mark.parametrize(
    "source",
    [
        photograph(200, 300, "PNG"),
        torch.zeros(3, 200, 300, dtype=torch.uint8),
        Image.new("RGB", (300, 200)),
    ],
    ids=["png", "tensor", "image"],
)
def test_what_is_no_jpeg_file_is_decoded_whole(shapes: List[Any], source: Any) -> None:
    crop = RandomResizedCrop(16, dct_scaling=True)
    expected = drawn(field(source, RandomResizedCrop(16)), 0)
    assert drawn(field(source, crop), 0).equal(expected)
    assert shapes == [(200, 300)] * 2


def test_a_turned_jpeg_file_is_decoded_whole(shapes: List[Any]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = photograph(200, 300, exif=exif)
    expected = drawn(field(source, RandomResizedCrop(16)), 0)
    assert drawn(field(source, RandomResizedCrop(16, dct_scaling=True)), 0).equal(expected)
    assert shapes == [(300, 200)] * 2


def test_a_source_that_is_a_function(shapes: List[Any], tmp_path: Path) -> None:
    source = photograph(200, 300)
    crop = RandomResizedCrop(16, scale=[1.0, 1.0], dct_scaling=True)
    (tmp_path / "a.jpg").write_bytes(source)
    images = [drawn(field(each, crop), 0) for each in (source, lambda: source, tmp_path / "a.jpg")]
    assert images[0].equal(images[1])
    assert images[0].equal(images[2])


def test_an_unknown_argument() -> None:
    with pytest.raises(ConfigurationError, match="dct"):
        ImageTransform.from_params(Params({"type": "random_resized_crop", "size": 8, "dct": True}))
