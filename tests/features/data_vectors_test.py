import io
import tarfile
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest
from allennlp.common import Params
from PIL import Image

from allencv.classify.arguments import ON_GPU
from allencv.data.dataset_readers.image_dataset_reader import Sample
from allencv.data.inspection import CheckedImage, Split, examine_all, read_splits
from allencv.features.data_vectors import DataVectors, vectors_of_data
from tests.data.problems_test import Given, in_a_file, pattern
from tests.features.colour_encoder import ColourEncoder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    return tmp_path / "cache"


def checked(**data: List[Sample]) -> Tuple[List[Split], List[CheckedImage]]:
    Given.data = data
    config = {f"{name}_data_path": name for name in data}
    splits = read_splits(Params({"dataset_reader": {"type": "test_given"}, **config}))
    return splits, list(examine_all(splits, 2))


def vectors_of(cache: bool = False, **data: List[Sample]) -> DataVectors:
    return vectors_of_data(ColourEncoder(), *checked(**data), cache=cache)


def expected(image: Image.Image) -> np.ndarray:
    encoder = ColourEncoder()
    return encoder.vectors(encoder.preprocess(image)[None])[0]


def test_vectors_are_in_the_order_of_the_images() -> None:
    images = [pattern(seed) for seed in range(3 * ON_GPU + 5)]
    found = vectors_of(
        train=[Sample(image, "a") for image in images[:-2]],
        test=[Sample(image, "b") for image in images[-2:]],
    )
    assert [image.index for image in found.images] == [*range(len(images) - 2), 0, 1]
    assert [image.split for image in found.images[-3:]] == ["train", "test", "test"]
    np.testing.assert_array_equal(found.vectors, [expected(image) for image in images])
    assert found.vectors.dtype == np.float32


def test_images_without_a_vector() -> None:
    found = vectors_of(
        train=[
            Sample(b"no image", "a"),
            Sample(pattern(1), "a"),
            Sample(Image.new("RGB", (64, 64)), "a"),
            Sample(pattern(1), "b"),
            Sample(pattern(2, (7, 7)), "b"),
        ]
    )
    assert [image.index for image in found.images] == [1]
    assert found.vectors.shape == (1, 48)
    ((image, reason),) = found.errors
    assert image.index == 4
    assert reason.endswith("7 pixels wide; expected 8 or more")
    assert found.plain == 1


def test_vectors_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"train": [Sample(pattern(seed), "a") for seed in range(3)]}
    first = vectors_of(cache=True, **data)
    assert first.vectors.dtype == np.float16
    monkeypatch.setattr(ColourEncoder, "vectors", None)  # it computes nothing again
    np.testing.assert_array_equal(vectors_of(cache=True, **data).vectors, first.vectors)
    assert list(cache.iterdir())


def test_images_in_shards(tmp_path: Path) -> None:
    contents = [in_a_file(pattern(seed), "PNG") for seed in range(3)]
    with tarfile.open(tmp_path / "pets.tar", "w") as shard:
        for number, content in enumerate([*contents, b"none"]):
            for suffix, data in (("png", content), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    config = {"dataset_reader": {"type": "webdataset"}, "train_data_path": f"{tmp_path}/pets.tar"}
    splits = read_splits(Params(config))
    found = vectors_of_data(ColourEncoder(), splits, examine_all(splits, 2))
    assert [image.index for image in found.images] == [0, 1, 2]
    expected_vectors = [expected(pattern(seed)) for seed in range(3)]
    np.testing.assert_array_equal(found.vectors, np.float16(expected_vectors))


def test_no_data() -> None:
    assert vectors_of(train=[]).vectors.shape == (0, 48)
