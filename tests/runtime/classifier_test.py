from pathlib import Path
from typing import List

import numpy as np
import pytest

from allencv.runtime import OnnxClassifier, readable
from allencv.runtime.certainty import Judgement
from allencv.runtime.classifier import NOT_FINITE, classify_pixels, compare
from allencv.runtime.errors import ImageError
from tests.runtime.tiny_bundle import write_bundle


def judgement(probabilities: List[float]) -> Judgement:
    return Judgement(np.array(probabilities, np.float32))


def test_the_answer_of_one_label(tmp_path: Path) -> None:
    classifier = OnnxClassifier(write_bundle(tmp_path / "bundle"))
    assert readable(classifier, judgement([0.25, 0.5, 0.25]), top_k=2) == {
        "label": "green",
        "top_k": [
            {"label": "green", "probability": 0.5},
            {"label": "red", "probability": 0.25},  # before blue, which is as probable
        ],
    }
    answer = readable(classifier, judgement([0.25, 0.5, 0.25]), top_k=9)
    assert [entry["label"] for entry in answer["top_k"]] == ["green", "red", "blue"]


def test_the_answer_of_several_labels(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", thresholds=[0.5, 0.1, 0.0])
    answer = readable(OnnxClassifier(bundle), judgement([0.5, 0.25, 0.75]))
    assert answer["labels"] == ["blue", "green"]  # 0.5 is not above its threshold
    assert [entry["label"] for entry in answer["top_k"]] == ["blue", "red", "green"]
    assert readable(OnnxClassifier(bundle), judgement([0, 0, 0]))["labels"] == []


class Picky(OnnxClassifier):
    """Says the height of each image, is not finite for black ones, and takes none that is flat."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.batches: List[int] = [*getattr(self, "batches", []), len(images)]
        if images.shape[1] == 1:
            raise ImageError("too flat")
        is_black = (images == 0).all(axis=(1, 2, 3))
        return np.where(is_black, np.nan, images.shape[1])[:, None].repeat(3, axis=1)


def test_images_of_one_shape_are_classified_together(tmp_path: Path) -> None:
    classifier = Picky(write_bundle(tmp_path / "bundle"))
    shapes = {7: (2, 4, 3), 1: (3, 4, 3), 5: (2, 4, 3), 3: (1, 4, 3), 4: (1, 4, 3), 2: (2, 4, 3)}
    images = {key: np.full(shape, key % 5, np.uint8) for key, shape in shapes.items()}
    outcomes = classify_pixels(classifier, images)
    assert classifier.batches == [3, 1, 2]
    assert {key: outcomes[key] for key in (3, 4, 5)} == {
        3: "too flat",
        4: "too flat",
        5: NOT_FINITE,
    }
    assert {key: list(outcomes[key].probabilities) for key in (1, 2, 7)} == {
        1: [3] * 3,
        2: [2] * 3,
        7: [2] * 3,
    }
    assert outcomes.keys() == images.keys()
    assert classify_pixels(classifier, {}) == {}


def test_tables_of_probabilities_are_compared() -> None:
    expected = np.array([[0.6, 0.4], [0.2, 0.8]], np.float32)
    given = np.array([[0.4, 0.6], [0.2, 0.8]], np.float32)
    agreement, difference = compare(expected, given, None)
    assert agreement == 0.5
    assert difference == pytest.approx(0.2)
    # The first image has the first label and, in the second table, the second too.
    assert compare(expected, given, [0.3, 0.5])[0] == 0.5
    assert compare(expected, given, [0.1, 0.1])[0] == 1
    given[0, 0] = np.nan
    assert np.isnan(compare(expected, given, None)).all()
