import io
from pathlib import Path
from typing import Any, Iterable

import numpy as np
import pytest
import torch
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.inspection import Split
from allencv.data.samples import SampleList
from allencv.features.sample_vectors import as_content, sample_vectors
from allencv.predictors.archive_classifier import ArchiveClassifier
from allencv.runtime import ImageError
from tests.data.problems_test import in_a_file, pattern


class ListedReader(ImageDatasetReader):
    def read_samples(self, file_path: Any) -> Iterable[Sample]:
        return file_path


def split_of(*images: Any) -> Split:
    samples = SampleList(Sample(image, "cat") for image in images)
    return Split("train", "data", ListedReader(), samples)


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image.Image:
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    return Image.fromarray(pixels)


def test_images_of_any_source_have_the_same_vector(
    picture: Image.Image, trained_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    picture.save(path)
    content = path.read_bytes()
    split = split_of(
        *(str(path), path, content, picture, np.asarray(picture)),
        *(lambda: content, lambda: picture),
        *(str(tmp_path / "missing.png"), b"none"),
    )
    encoder = ArchiveClassifier(trained_run, "cpu")
    found = sample_vectors(encoder, split, range(len(split.samples)))
    assert found.indices == list(range(7))
    expected = encoder.vectors(encoder.preprocess(picture)[None])
    assert found.vectors.shape == (7, expected.shape[1])
    np.testing.assert_array_equal(found.vectors, np.repeat(expected.astype(np.float16), 7, 0))
    missing = str(tmp_path / "missing.png")
    assert len(found.errors) == 2
    assert found.errors[7] == f"{missing}: No such file or directory"
    assert "not an image" in found.errors[8]


def test_some_samples_in_any_order(picture: Image.Image, trained_run: Path) -> None:
    split = split_of(picture, picture.rotate(180), picture.convert("L"))
    encoder = ArchiveClassifier(trained_run, "cpu")
    whole = sample_vectors(encoder, split, [0, 1, 2]).vectors
    found = sample_vectors(encoder, split, [2, 0], show_progress=False)
    assert found.indices == [2, 0]
    np.testing.assert_array_equal(found.vectors, whole[[2, 0]])


def test_files_stay_as_they_are() -> None:
    assert as_content("/photos/a.jpg", None) == "/photos/a.jpg"
    assert as_content(Path("/photos/a.jpg"), None) == "/photos/a.jpg"
    assert as_content(b"jpeg", None) == b"jpeg"
    assert as_content(lambda: b"jpeg", None) == b"jpeg"


@pytest.mark.parametrize(
    "source",
    [
        pattern(3),
        np.asarray(pattern(3)),
        torch.from_numpy(np.asarray(pattern(3)).transpose(2, 0, 1).copy()),
        lambda: pattern(3),
    ],
    ids=["pillow", "numpy", "torch", "callable"],
)
def test_what_is_no_file_becomes_one(source: Any) -> None:
    content = as_content(source, None)
    assert isinstance(content, bytes)
    np.testing.assert_array_equal(Image.open(io.BytesIO(content)), pattern(3))


def test_a_range_of_values_is_applied() -> None:
    deep = np.linspace(0, 1000, 64 * 64).reshape(64, 64).astype(np.uint16)
    content = as_content(in_a_file(Image.fromarray(deep)), (0, 1000))
    assert isinstance(content, bytes)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert (pixels.dtype, pixels.shape, pixels.min(), pixels.max()) == (
        np.uint8,
        (64, 64, 3),
        0,
        255,
    )


def test_a_file_that_has_gone() -> None:
    def gone() -> bytes:
        raise ImageError("gone.jpg: No such file")

    with pytest.raises(ImageError, match="gone.jpg"):
        as_content(gone, None)
