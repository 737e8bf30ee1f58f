import copy
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import TensorDict, Vocabulary

from allencv.common.feature_store import FeatureStore
from allencv.data.class_weightings import ExplicitWeights
from allencv.data.data_loaders import ImageDataLoader
from allencv.data.dataset_readers import ImageFolderReader, WebDatasetReader
from allencv.data.transforms import ImageTransform
from allencv.runtime import ImageError
from tests.conftest import write_images


def encode(images: torch.Tensor) -> torch.Tensor:
    """Return the sums of a few pixels, which float16 holds."""
    encoded.extend(images)
    return images[:, :, :4, :4].float().sum((2, 3)) / 4


encoded: List[torch.Tensor] = []
RANDOM = [
    {"type": "resize", "size": [24, 24]},
    {"type": "random_crop", "size": 16},
    {"type": "random_horizontal_flip"},
]
FIXED = [{"type": "resize", "size": [16, 16]}]


def reader(transforms: List[Dict[str, Any]], **arguments: Any) -> ImageFolderReader:
    built = [ImageTransform.from_params(Params(dict(each))) for each in transforms]
    return ImageFolderReader(transforms=built, **arguments)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images", {"a": 4, "b": 7})


def loader_of(data: Path, read: ImageFolderReader, **arguments: Any) -> ImageDataLoader:
    arguments = {"batch_size": 4, "shuffle": True, "num_workers": 0, "seed": 5, **arguments}
    loader = ImageDataLoader(read, str(data), **arguments)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


def keep(loader: ImageDataLoader, folder: Path, views: int = 1) -> ImageDataLoader:
    loader.keep_features(encode, lambda shape, count: FeatureStore(folder, shape), views)
    return loader


def epoch(loader: ImageDataLoader, number: int) -> List[TensorDict]:
    loader.seek(number)
    return list(loader)


def named(batches: List[TensorDict], key: str) -> Dict[str, torch.Tensor]:
    return {
        data["image"]: value
        for batch in batches
        for data, value in zip(batch["metadata"], batch[key])
    }


def test_an_epoch_has_the_features_of_its_view_in_the_order_of_the_epoch(
    images: Path, tmp_path: Path
) -> None:
    plain, kept = (loader_of(images, reader(RANDOM)) for _ in range(2))
    keep(kept, tmp_path / "features", views=2)
    for number, view in ((0, 0), (1, 1), (2, 0), (3, 1)):
        batches, order = epoch(kept, number), epoch(plain, number)
        assert [batch["metadata"] for batch in batches] == [batch["metadata"] for batch in order]
        assert all(batch["label"].equal(same["label"]) for batch, same in zip(batches, order))
        assert all("image" not in batch for batch in batches)
        features = named(batches, "features")
        seen = named(epoch(plain, view), "image")
        assert features.keys() == seen.keys()
        for name, image in seen.items():
            assert features[name].dtype == torch.float16
            assert features[name].equal(encode(image[None])[0].half())
    kept.release_features()
    assert all(
        batch["image"].equal(same["image"])
        for batch, same in zip(epoch(kept, 1), epoch(plain, 1), strict=True)
    )


@pytest.mark.parametrize(
    "arguments",
    [{"num_workers": 3}, {"num_workers": 2, "worker": "process"}, {"cache": "memory"}],
)
def test_workers_and_the_cache_change_nothing(
    images: Path, tmp_path: Path, arguments: Dict[str, Any]
) -> None:
    one = keep(loader_of(images, reader(RANDOM)), tmp_path / "one")
    other = keep(loader_of(images, reader(RANDOM), **arguments), tmp_path / "other")
    for batch, same in zip(epoch(one, 0), epoch(other, 0), strict=True):
        assert batch["features"].equal(same["features"])


def count_new(loader: ImageDataLoader, folder: Path, views: int = 1) -> int:
    """Return how many images are encoded, without the one that shows the shape."""
    encoded.clear()
    keep(loader, folder, views)
    for view in range(views):
        loader.prepare_features(view)
    return len(encoded) - 1


def test_only_what_has_changed_is_computed_anew(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    assert count_new(loader_of(images, reader(FIXED)), folder) == 11
    assert count_new(loader_of(images, reader(FIXED)), folder) == 0
    assert count_new(loader_of(images, reader(FIXED), seed=6, shuffle=False), folder) == 0

    (images / "a" / "000.jpg").write_bytes((images / "b" / "000.jpg").read_bytes())
    assert count_new(loader_of(images, reader(FIXED)), folder) == 0  # the same content
    write_images(images, {"c": 1}, seed=9)
    assert count_new(loader_of(images, reader(FIXED)), folder) == 1
    write_images(images, {"c": 1}, seed=10)
    assert count_new(loader_of(images, reader(FIXED)), folder) == 1

    larger = [{"type": "resize", "size": [20, 20]}]
    for other in (reader(larger), reader(FIXED, color_mode="RGBA"), reader([*FIXED, *FIXED])):
        assert count_new(loader_of(images, other), folder) == 12
    assert count_new(loader_of(images, reader(RANDOM)), folder, views=2) == 24
    assert count_new(loader_of(images, reader(RANDOM)), folder, views=3) == 12
    assert count_new(loader_of(images, reader(RANDOM), seed=6), folder, views=1) == 12


def test_views_that_are_all_the_same_are_kept_once(images: Path, tmp_path: Path) -> None:
    assert count_new(loader_of(images, reader(FIXED)), tmp_path / "features", views=5) == 11


def test_an_image_that_is_drawn_again_has_one_view(images: Path, tmp_path: Path) -> None:
    weighting = ExplicitWeights({"a": 9.0, "b": 1.0})
    loader = loader_of(images, reader(RANDOM), class_weighting=weighting)
    batches = epoch(keep(loader, tmp_path / "features"), 0)
    names = [each["image"] for batch in batches for each in batch["metadata"]]
    assert len(set(names)) < len(names) == 11
    features = named(batches, "features")
    assert all(
        row.equal(features[each["image"]])
        for batch in batches
        for each, row in zip(batch["metadata"], batch["features"])
    )


def test_every_image_comes_once_and_in_order_for_evaluation(images: Path, tmp_path: Path) -> None:
    plain, kept = (loader_of(images, reader(FIXED), drop_last=True) for _ in range(2))
    plain.for_evaluation = keep(kept, tmp_path / "features").for_evaluation = True
    for batch, same in zip(epoch(kept, 0), epoch(plain, 0), strict=True):
        assert batch["features"].equal(encode(same["image"]).half())
        assert batch["metadata"] == same["metadata"]


@pytest.mark.parametrize("transforms", [FIXED, RANDOM], ids=["fixed", "random"])
def test_unreadable_images_are_an_error_or_left_out(
    images: Path, tmp_path: Path, transforms: List[Dict[str, Any]]
) -> None:
    for bad in ("a/002.jpg", "b/001.jpg"):
        (images / bad).write_bytes(b"not an image")
    with pytest.raises(ImageError, match="a/002.jpg: .*on_error"):
        keep(loader_of(images, reader(transforms)), tmp_path / "one").prepare_features(0)

    plain, kept = (loader_of(images, reader(transforms), on_error="skip") for _ in range(2))
    keep(kept, tmp_path / "two", views=2)
    for number in (0, 1):
        for batch, same in zip(epoch(kept, number), epoch(plain, number), strict=True):
            assert batch["metadata"] == same["metadata"]
            assert batch["features"].equal(encode(same["image"]).half())
    assert kept.images_skipped == plain.images_skipped > 4  # one is alone in its batch

    for path in images.glob("*/*.jpg"):
        path.write_bytes(b"not an image")
    with pytest.raises(ImageError, match="no image of .*images can be read; the first: .*000.jpg"):
        keep(loader_of(images, reader(FIXED), on_error="skip"), tmp_path).prepare_features(0)


def test_what_has_no_features_to_keep_is_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="data_loader.repeats is 2; expected 1"):
        keep(loader_of(images, reader(FIXED), repeats=2), tmp_path)
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(images / "a" / "000.jpg", "0.jpg")
    streamed = ImageDataLoader(WebDatasetReader(), str(tmp_path / "shard.tar"))
    with pytest.raises(ConfigurationError, match="the images are streamed; expected .*false"):
        keep(streamed, tmp_path)
    with pytest.raises(ConfigurationError, match="pixels .* come together; expected images of one"):
        keep(loader_of(images, reader([])), tmp_path).prepare_features(0)


def test_features_for_which_there_is_no_room_are_an_error(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader = loader_of(images, reader(FIXED))
    loader.keep_features(encode, lambda shape, _: FeatureStore(tmp_path / "f", shape, 1e-9), 1)
    with pytest.raises(ConfigurationError, match="10 images of .* could not be kept"):
        loader.prepare_features(0)


def test_features_that_float16_cannot_hold_are_an_error(images: Path, tmp_path: Path) -> None:
    loader = loader_of(images, reader(FIXED))
    loader.keep_features(
        lambda batch: encode(batch) * 1e6, lambda shape, _: FeatureStore(tmp_path, shape), 1
    )
    with pytest.raises(ConfigurationError, match="float16"):
        loader.prepare_features(0)


def test_a_copy_yields_images_with_workers_of_its_own(images: Path, tmp_path: Path) -> None:
    loader = keep(loader_of(images, reader(FIXED), num_workers=2), tmp_path / "f")
    assert "features" in epoch(loader, 0)[0]
    copied = copy.deepcopy(loader)
    assert copied._features is None
    assert "image" in epoch(copied, 0)[0]
    assert "features" in epoch(loader, 1)[0]
