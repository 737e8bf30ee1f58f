from pathlib import Path
from typing import Any, Iterable

import numpy as np
import pytest
from PIL import Image

from allencv.data.dataset_readers.image_dataset_reader import ImageDatasetReader, Sample
from allencv.data.inspection import Split
from allencv.data.samples import SampleList
from allencv.features.sample_vectors import sample_vectors
from allencv.predictors.archive_classifier import ArchiveClassifier


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
    assert found.errors[missing] == f"{missing}: No such file or directory"
    assert any("not an image" in reason for reason in found.errors.values())


def test_some_samples_in_any_order(picture: Image.Image, trained_run: Path) -> None:
    split = split_of(picture, picture.rotate(180), picture.convert("L"))
    encoder = ArchiveClassifier(trained_run, "cpu")
    whole = sample_vectors(encoder, split, [0, 1, 2]).vectors
    found = sample_vectors(encoder, split, [2, 0], show_progress=False)
    assert found.indices == [2, 0]
    np.testing.assert_array_equal(found.vectors, whole[[2, 0]])
