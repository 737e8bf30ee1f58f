from pathlib import Path
from typing import Any, List

import numpy as np
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data.dataset_readers import SequenceTaggingDatasetReader
from PIL import Image

from allencv.data.transforms import ImageTransform
from allencv.exporting import export_bundle
from allencv.exporting.preprocessing import preprocessing_of
from allencv.models.pixel_normalization import PixelNormalization
from allencv.runtime import Preprocessing
from tests.exporting.archives import archive_of, reader_of, small_resnet

EVAL = {"type": "eval", "size": [24, 40], "fit": "pad", "interpolation": "bicubic"}
NORMALIZE = {"type": "normalize", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


def test_it_is_that_of_the_reader() -> None:
    preprocessing, normalization = preprocessing_of(reader_of([dict(EVAL)], color_mode="RGBA"))
    assert preprocessing == Preprocessing(24, 40, "pad", 0.875, "bicubic", "RGBA")
    assert normalization is None


def test_the_value_range_is_that_of_the_reader() -> None:
    reader = reader_of([dict(EVAL)], value_range=[0, 4095])
    preprocessing, _ = preprocessing_of(reader)
    assert preprocessing.value_range == (0, 4095)
    depths = np.random.default_rng(0).integers(0, 4096, (50, 60), np.uint16)
    field = reader.text_to_instance(Image.fromarray(depths))["image"]
    pixels = preprocessing(Image.fromarray(depths))
    assert field.as_tensor({}).permute(1, 2, 0).numpy().tolist() == pixels.tolist()
    assert len(np.unique(pixels)) > 50


def test_the_reader_s_normalization_goes_into_the_network() -> None:
    reader = reader_of([dict(EVAL), dict(NORMALIZE)])
    preprocessing, normalization = preprocessing_of(reader)
    assert preprocessing == Preprocessing(24, 40, "pad", 0.875, "bicubic")
    assert normalization is not None
    assert normalization.is_like(PixelNormalization([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    image = torch.randint(0, 256, (3, 30, 30), dtype=torch.uint8)
    expected = reader.transforms[1](reader.transforms[0](image))
    pixels = reader.transforms[0](image)[None]
    torch.testing.assert_close(normalization(pixels)[0], expected, atol=1e-6, rtol=0)


@ImageTransform.register("only_in_this_test")
class OnlyInThisTest(ImageTransform):
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image.flip(1)


@pytest.mark.parametrize(
    ("transforms", "found"),
    [
        ([], "is empty"),
        ([{"type": "resize", "size": 32}], "has 'resize'"),
        ([dict(EVAL), {"type": "grayscale", "num_output_channels": 3}], "has 'grayscale'"),
        ([dict(EVAL), {"type": "only_in_this_test"}], "has 'only_in_this_test'"),
        ([dict(EVAL), dict(EVAL)], "has 'eval'"),
        ([dict(NORMALIZE), dict(EVAL)], "has 'normalize'"),
        ([dict(EVAL), dict(NORMALIZE), dict(NORMALIZE)], "has 'normalize'"),
    ],
)
def test_what_cannot_be_put_into_a_bundle_is_named(transforms: List[Any], found: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        preprocessing_of(reader_of(transforms))
    assert str(raised.value) == (
        f"validation_dataset_reader.transforms {found}, which cannot be put into a bundle; "
        "expected one 'eval', followed at most by a 'normalize'"
    )


def test_it_stops_the_export(tmp_path: Path) -> None:
    transforms = [{"type": "eval", "size": 32}, {"type": "only_in_this_test"}]
    with pytest.raises(ConfigurationError, match="'only_in_this_test', which cannot be put into"):
        export_bundle(archive_of(small_resnet(), transforms), tmp_path / "bundle", parity=False)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_of_texts() -> None:
    with pytest.raises(ConfigurationError, match="a SequenceTaggingDatasetReader; expected a read"):
        preprocessing_of(SequenceTaggingDatasetReader())
