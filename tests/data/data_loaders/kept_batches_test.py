import copy
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from PIL import Image

from allencv.data.data_loaders import ImageDataLoader
from allencv.data.data_loaders.kept_batches import kept_batch
from allencv.data.data_loaders.memory_cache import CachedInstances
from allencv.data.data_loaders.workers import collate, load
from allencv.data.dataset_readers import ImageFolderReader
from allencv.data.transforms import ImageTransform, RandomCrop
from allencv.data.transforms.batch_draws import BatchDraws

SIZE = 8
TRANSFORMS: Dict[str, List[Dict[str, Any]]] = {
    "none": [],
    "fixed": [{"type": "grayscale"}],
    "random": [
        {"type": "alternating_flip"},
        {"type": "random_crop", "size": 6, "padding": 2},
        {"type": "cutout", "size": 3},
        {"type": "normalize", "mean": [0.5] * 3, "std": [0.2] * 3},
    ],
    "some without a form for batches": [
        {"type": "random_crop", "size": 6, "padding": 2},
        {"type": "random_horizontal_flip"},
        {"type": "color_jitter", "brightness": 0.5},
        {"type": "random_horizontal_flip"},
    ],
    "different sizes": [
        {
            "type": "random_choice",
            "transforms": [{"type": "center_crop", "size": 3}, {"type": "center_crop", "size": 5}],
        }
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 images of two classes; the last is larger."""
    root = tmp_path_factory.mktemp("images")
    for number in range(SIZE):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        side = 9 if number == SIZE - 1 else 7
        pixels = torch.randint(256, (side, side, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return root


def make_loader(folder: Path, params: List[Dict[str, Any]], reader: Any = ImageFolderReader) -> Any:
    steps = [ImageTransform.from_params(Params(copy.deepcopy(each))) for each in params]
    loader = ImageDataLoader(reader(transforms=steps), folder, 3, True, num_workers=0, seed=5)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    return loader


class OwnReader(ImageFolderReader):
    """Makes its instances in its own way."""

    def text_to_instance(self, *arguments: Any, **others: Any) -> Any:
        return super().text_to_instance(*arguments, **others)


@pytest.mark.parametrize("reader", [ImageFolderReader, OwnReader])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_batch_is_that_of_loaded_instances(folder: Path, name: str, reader: Any) -> None:
    loader = make_loader(folder, TRANSFORMS[name], reader)
    cached = CachedInstances(loader.images.instances)  # keeps them all, as a sample
    made = 0
    for job in loader._jobs(1, 0):
        expected = collate([load(cached[index], seed) for index, seed in job]).batch
        batch = kept_batch(cached, job)
        indices = {index for index, _ in job}
        larger = [index for index in indices if "7.png" in str(cached[index]["image"].source)]
        assert (batch is None) == bool(larger and len(job) > 1)
        if batch is not None:
            made += 1
            assert list(batch) == list(expected)
            assert batch["metadata"] == expected["metadata"]
            assert torch.equal(batch["label"], expected["label"])
            assert torch.equal(batch["image"], expected["image"])
            assert batch["image"].stride() == expected["image"].stride()
    assert made >= 1


def test_an_error_is_left_to_the_single_image(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader = make_loader(folder, [])
    loader = ImageDataLoader(ImageFolderReader(transforms=[RandomCrop(50)]), folder, num_workers=0)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    instances: Any = loader.images.instances
    assert kept_batch(CachedInstances(instances), [(0, 1), (1, 2)]) is None
    assert "draw_batch" not in caplog.text  # the image is too small


class WrongBatches(RandomCrop):
    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Any:
        return lambda images: images[:1]


class NoBatches(RandomCrop):
    def draw_batch(self, images: torch.Tensor, draws: BatchDraws) -> Any:
        raise KeyError("mine")


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (WrongBatches(6), r"ValueError: the result has the shape \(1, 3, 7, 7\); expected \(2, "),
        (NoBatches(6), "KeyError: 'mine'"),
    ],
)
def test_an_error_in_a_batch_form_is_logged_once(
    folder: Path, transform: ImageTransform, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    loader = ImageDataLoader(ImageFolderReader(transforms=[transform]), folder, num_workers=0)
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    cached = CachedInstances(loader.images.instances)  # type: ignore[arg-type]
    for _ in range(2):
        assert kept_batch(cached, [(0, 1), (1, 2)]) is None
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert re.search(message, warning.getMessage())


def test_a_new_vocabulary_gives_new_labels(folder: Path) -> None:
    loader = make_loader(folder, [])
    cached = CachedInstances(loader.images.instances)
    job = [(0, 1), (1, 2)]
    before = kept_batch(cached, job)
    assert before is not None
    vocab = Vocabulary(non_padded_namespaces=["labels"])
    vocab.add_tokens_to_namespace(["none", "cat", "dog"], "labels")
    loader.index_with(vocab)
    after = kept_batch(cached, job)
    assert after is not None
    assert torch.equal(after["label"], torch.ones_like(before["label"]))
