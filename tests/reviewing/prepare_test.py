import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from PIL import Image
from scipy.special import logit, softmax

from allencv.data.inspection import Split, read_splits
from allencv.reviewing.prepare import Review, described, prepare_review
from allencv.runtime.certainty import Certainty, Scaling, UnknownRule
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile
from tests.conftest import write_images
from tests.features.colour_encoder import ColourEncoder
from tests.runtime.certainty.certainties import certainty


class ColourClassifier(ColourEncoder):
    """Says red, green and blue: how much there is of each, on average."""

    name = "colours"
    labels = ["red", "green", "blue"]
    multi_label = False
    thresholds: Optional[List[float]] = None
    certainty: Optional[Certainty] = None

    def probabilities_of_vectors(self, vectors: np.ndarray) -> np.ndarray:
        means = vectors.reshape(len(vectors), 16, 3).mean(1)
        return means / 255 if self.multi_label else softmax(means / 20, axis=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLENCV_FEATURES", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def image(path: str, colour: Tuple[int, int, int], seed: int = 0) -> ImageFile:
    """An image of a colour with noise."""
    noise = np.random.default_rng(seed).integers(-20, 21, (16, 16, 3))
    pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return ImageFile(path, path)


def data(path: str = "data", **reader: Any) -> List[Split]:
    """Images of three colours; `red/004.png` is blue."""
    write_images(Path(path), {"red": 12, "green": 12, "blue": 12}, size=16, suffix=".png")
    image(f"{path}/red/004.png", (40, 40, 170))
    params: Dict[str, Any] = {"type": "image_folder", **reader}
    return read_splits(Params({"dataset_reader": params, "train_data_path": path}))


def names(review: Review) -> List[str]:
    return [queued.picture.name for queued in review.queue]


def test_wrong_labels_then_images_without_labels() -> None:
    sure = image("new/sure.png", (200, 30, 30))
    unsure = image("new/unsure.png", (100, 110, 30))
    splits = data()
    review = prepare_review(ColourClassifier(), [sure, unsure], splits, ["grey"])
    assert review.labels == ["blue", "green", "grey", "red"]
    assert names(review) == ["data/red/004.png", "new/unsure.png", "new/sure.png"]
    assert (review.label_errors, review.errors, review.notes) == (1, {}, [])
    assert described(review) == "1 image whose label may be wrong, 2 images without a label"
    error, unlabelled, _ = review.queue
    assert error.picture.labels == ("red",)
    assert error.suggestion == ("blue",)
    assert error.title == "Label may be wrong"
    assert error.reason == "The label is red. The other images suggest blue."
    assert {review.labelled[place].labels for place in error.similar} == {("blue",)}
    assert error.top[0]["label"] == "blue"
    assert unlabelled.picture.labels is None
    assert unlabelled.suggestion == ("green",)
    assert unlabelled.picture.key == str(Path("new/unsure.png").resolve())
    assert sum(each["probability"] for each in unlabelled.top) == pytest.approx(1)


def test_the_reasons() -> None:
    model = ColourClassifier()
    images = [
        *(image(f"new/a{n}.png", (100, 104, 30), n) for n in range(9)),
        image("new/b.png", (30, 30, 250)),
        *(image(f"new/c{n}.png", (120, 60, 60), n) for n in range(9)),
    ]
    review = prepare_review(model, images, [])
    shown = {queued.picture.name: (queued.title, queued.reason) for queued in review.queue}
    title, reason = shown["new/a0.png"]
    assert title == "The model is unsure"
    assert re.fullmatch(r"Most probable: green \(5\d%\) and red \(4\d%\)\.", reason)
    assert shown["new/b.png"] == ("Unlike the other images", "Most probable: blue (100%).")
    title, reason = shown["new/c0.png"]
    assert title == "The model is sure"
    assert re.fullmatch(r"Most probable: red \(9\d%\)\.", reason)
    assert all(queued.similar == [] for queued in review.queue)


def test_a_calibrated_model() -> None:
    model = ColourClassifier()
    images = [image("new/a.png", (110, 104, 30)), image("new/b.png", (200, 30, 30))]
    plain = {queued.picture.name: queued for queued in prepare_review(model, images, []).queue}
    rule = UnknownRule("max_probability", 0.3, 0.95)
    model.certainty = certainty(scaling=Scaling([0.5] * 3, [0.0] * 3), unknown=rule)
    found = {queued.picture.name: queued for queued in prepare_review(model, images, []).queue}
    for name, queued in found.items():
        network = {each["label"]: each["probability"] for each in plain[name].top}
        roots = {label: probability**0.5 for label, probability in network.items()}
        given = {each["label"]: each["probability"] for each in queued.top}
        expected = {label: root / sum(roots.values()) for label, root in roots.items()}
        assert given == pytest.approx(expected, abs=1e-5)
        assert queued.suggestion == plain[name].suggestion == ("red",)
    assert found["new/a.png"].title == "Unknown: unlike the training images"
    assert found["new/b.png"].title == "The model is sure"


def test_a_calibrated_model_with_several_labels() -> None:
    model = ColourClassifier()
    model.multi_label, model.thresholds = True, [0.4, 0.4, 0.4]
    images = [image("new/a.png", (200, 110, 30))]
    (plain,) = prepare_review(model, images, []).queue
    model.certainty = certainty(scaling=Scaling([2.0] * 3, [1.5] * 3))
    # The thresholds of a calibrated model are those for calibrated probabilities.
    model.thresholds = model.certainty.calibrated_thresholds([0.4, 0.4, 0.4])
    (queued,) = prepare_review(model, images, []).queue
    assert queued.suggestion == plain.suggestion == ("red", "green")
    assert queued.top[-1]["label"] == "blue"
    logit_of_blue = 2 * logit(plain.top[-1]["probability"]) + 1.5
    assert logit(queued.top[-1]["probability"]) == pytest.approx(logit_of_blue, abs=1e-4)


def test_an_image_that_is_named_twice_is_shown_once() -> None:
    splits = data()
    listed = [ImageFile("data/red/004.png", "data/red/004.png"), image("new/a.png", (1, 2, 3))]
    review = prepare_review(ColourClassifier(), listed, [*splits, *splits])
    assert names(review) == ["data/red/004.png", "new/a.png"]
    assert len(review.labelled) == 36


def test_data_without_labels_and_images_that_cannot_be_shown() -> None:
    splits = data(labelled=False, recursive=True)
    Path("data/red/005.png").write_text("none")
    Image.new("RGB", (4, 4)).save("small.png")
    review = prepare_review(ColourClassifier(), [ImageFile("small.png", "small.png")], splits)
    assert review.label_errors == 0
    assert len(review.queue) == 35
    assert list(review.errors) == ["data/red/005.png", "small.png"]
    assert "4 pixels wide" in review.errors["small.png"]


def test_labels_that_cannot_be_judged() -> None:
    write_images(Path("one"), {"red": 1, "green": 1}, size=16)
    params = {"dataset_reader": {"type": "image_folder"}, "train_data_path": "one"}
    review = prepare_review(ColourClassifier(), [], read_splits(Params(params)))
    assert review.queue == []
    assert review.notes == ["label errors: not searched, because no class has two images"]


def test_several_labels() -> None:
    model = ColourClassifier()
    model.multi_label, model.thresholds = True, [0.4, 0.4, 0.4]
    rows = ["file,colours", "a.png,red", "b.png,red", "c.png,green", "d.png,red green"]
    for name, colour in {
        "a": (200, 30, 30),
        "b": (30, 200, 30),
        "c": (30, 200, 30),
        "d": (200, 200, 30),
        "e": (200, 110, 30),
    }.items():
        image(f"{name}.png", colour)
    Path("t.csv").write_text("\n".join(rows))
    reader = {"type": "image_table", "image_column": "file", "labels_column": "colours"}
    params = {"dataset_reader": {**reader, "labels_delimiter": " "}, "train_data_path": "t.csv"}
    review = prepare_review(model, [ImageFile("e.png", "e.png")], read_splits(Params(params)))
    assert names(review) == ["b.png", "e.png"]
    error, unlabelled = review.queue
    assert error.reason == "The labels are red. The model suggests green."
    assert error.suggestion == ("green",)
    assert unlabelled.suggestion == ("red", "green")
    assert unlabelled.title == "The model is unsure"
    assert unlabelled.reason == "Nearest to its threshold: green (44%)."


def test_data_of_another_kind() -> None:
    model = ColourClassifier()
    model.multi_label, model.thresholds = True, [0.5] * 3
    with pytest.raises(InputError, match="the images in data have one label each, but the model g"):
        prepare_review(model, [], data())


def test_images_without_a_path() -> None:
    split = data()[0]
    samples: Any = [split.samples[0]._replace(image=b"bytes")]
    with pytest.raises(ConfigurationError, match="an image is a bytes without a path; expected"):
        prepare_review(ColourClassifier(), [], [split._replace(samples=samples)])
