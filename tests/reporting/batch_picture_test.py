import copy
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.util import prepare_environment
from allennlp.data import Vocabulary
from allennlp.training.util import data_loaders_from_params
from PIL import Image

from allencv.data.transforms import BatchTransform
from allencv.reporting.batch_picture import (
    DrawnImage,
    ImagePair,
    describe_label,
    draw_page,
    image_pairs,
)
from allencv.runtime import read_image
from tests.configs import experiment
from tests.conftest import write_images

EVAL = {"type": "eval", "size": 32}


@BatchTransform.register("test_previous")
class Previous(BatchTransform):
    """Gives each image's place to the one before it."""

    def __call__(self, images, labels, num_classes):
        return images.roll(1, 0), labels.roll(1, 0)


def show(config: Dict[str, Any], split: str = "train", count: int = 4, epoch: int = 0):
    return image_pairs(Params(copy.deepcopy(config)), split, count, epoch)


def after(shown: List[ImagePair]) -> np.ndarray:
    return np.stack([image.after.pixels for image in shown])


@pytest.mark.parametrize("epoch", [0, 2])
def test_what_training_sees_in_an_epoch(cats_and_dogs: Path, epoch: int) -> None:
    config = experiment(cats_and_dogs)
    shown = show(config, count=7, epoch=epoch)

    params = Params(copy.deepcopy(config))
    prepare_environment(params)
    loader = data_loaders_from_params(params)["train"]
    loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
    loader.seek(epoch)
    first, second, *_ = loader
    pixels = torch.cat([first["image"], second["image"]])[:7]
    assert np.array_equal(after(shown), pixels.permute(0, 2, 3, 1).numpy())
    names = [entry["image"] for entry in first["metadata"] + second["metadata"]]
    assert [image.name for image in shown] == names[:7]
    for image in shown:
        decoded = read_image(image.name, "RGB")
        assert np.array_equal(image.before.pixels, decoded)
        assert decoded.shape[:2] == (image.before.height, image.before.width)
        assert image.before.label == image.after.label == Path(image.name).parent.name


def test_the_validation_data_without_batch_transforms(cats_and_dogs: Path) -> None:
    config = experiment(cats_and_dogs, model__batch_transforms=["test_previous"])
    shown = show(config, "validation", count=100)
    assert len(shown) == 10
    assert np.array_equal(after(shown), after(show(experiment(cats_and_dogs), "validation", 10)))


def test_normalising_is_undone(cats_and_dogs: Path) -> None:
    def transformed(*transforms: Any) -> np.ndarray:
        return after(show(experiment(cats_and_dogs, dataset_reader__transforms=list(transforms))))

    expected = transformed(EVAL)
    normalize = {"type": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    to_float = {"type": "to_dtype", "dtype": "float32"}
    for transforms in (
        [normalize],
        [{"type": "compose", "transforms": ["identity", normalize]}],
        [{**to_float, "scale": True}],
    ):
        assert np.array_equal(transformed(EVAL, *transforms), expected)
    # Nobody has normalised these: they are shown from 0 to the brightest of the batch.
    brightened = expected * (255 / expected.max())
    assert np.allclose(transformed(EVAL, to_float), brightened, atol=0.51)


def test_batch_transforms_act_on_whole_batches(cats_and_dogs: Path) -> None:
    plain = show(experiment(cats_and_dogs))
    config = experiment(cats_and_dogs, model__batch_transforms=["test_previous"])
    shown = show(config, count=3)  # of a batch of 4
    assert np.array_equal(after(shown), np.roll(after(plain), 1, 0)[:3])
    labels = [image.before.label for image in plain]
    assert [image.before.label for image in shown] == labels[:3]
    assert [image.after.label for image in shown] == [labels[-1], *labels[:2]]


def test_soft_labels(cats_and_dogs: Path) -> None:
    mixup = {"type": "mixup", "alpha": 100}
    config = experiment(cats_and_dogs, model__batch_transforms=[mixup], data_loader__batch_size=12)
    labels = {image.after.label for image in show(config, count=12)}
    mixed = [label.split() for label in labels if label not in ("Cat", "Dog")]
    assert mixed
    for first, share, second, rest in mixed:
        assert {first, second} == {"Cat", "Dog"}
        assert float(share) >= float(rest) > 0.2
        assert float(share) + float(rest) == pytest.approx(1, abs=0.011)


def test_images_of_grey_and_of_unequal_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "train", {"a": 2, "b": 2}, suffix=".png")
    Image.new("L", (900, 300), 77).save(tmp_path / "train" / "a" / "wide.png")
    config = experiment(
        tmp_path,
        dataset_reader={"type": "image_folder", "color_mode": "L"},
        data_loader={"type": "image", "batch_size": 5, "num_workers": 0},
        validation_data_path=None,
    )
    del config["validation_data_path"]
    shown = show(config, count=5)
    (wide,) = [image for image in shown if image.name.endswith("wide.png")]
    assert (wide.before.height, wide.before.width) == (300, 900)
    assert wide.before.pixels.shape[1] < 900
    assert (wide.before.pixels == 77).all()
    assert {(image.after.height, image.after.width) for image in shown} == {(300, 900)}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ([0.0, 1.0, 0.0], "dog"),
        ([0.7, 0.3, 0.0], "cat 0.7 dog 0.3"),
        ([0.25, 0.001, 0.749], "eel 0.75 cat 0.25"),
        ([1.0, 0.0, 1.0], "cat, eel"),
        ([0.0, 0.0, 0.0], ""),
    ],
)
def test_labels_in_words(shares: List[float], expected: str) -> None:
    assert describe_label(shares, ["cat", "dog", "eel"]) == expected


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_page_has_equal_cells_and_no_text_over_another(count: int) -> None:
    label = "a name that is much too long for its place 0.5 another 0.5"
    sizes = [(20, 30), (300, 20), (64, 64)]
    pictures = [DrawnImage(label, np.zeros((*size, 3), np.uint8), *size) for size in sizes]
    name = "/data/class with $/an image whose name costs $5 and is as long as this and longer.jpg"
    shown = [ImagePair(name, pictures[i % 3], pictures[(i + 1) % 3]) for i in range(count)]
    figure = draw_page(shown, "config.jsonnet")
    figure.draw_without_rendering()
    cells = [cell.get_window_extent() for cell in figure.axes]
    texts = [text.get_window_extent() for text in figure.texts]
    assert len(cells) == 2 * count
    assert len({(round(cell.width), round(cell.height)) for cell in cells}) == 1
    assert round(cells[0].width) == round(cells[0].height)
    boxes = cells + texts
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:index])
    names = [text.get_text() for text in figure.texts if "class with $/" in text.get_text()]
    assert len(names) == count
    assert all("…" in each and each.endswith(".jpg") for each in names)
