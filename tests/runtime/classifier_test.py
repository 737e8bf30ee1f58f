from pathlib import Path

import numpy as np
import pytest

from allencv.runtime import OnnxClassifier, readable
from allencv.runtime.classifier import compare
from tests.runtime.tiny_bundle import write_bundle


def test_the_answer_of_one_label(tmp_path: Path) -> None:
    classifier = OnnxClassifier(write_bundle(tmp_path / "bundle"))
    assert readable(classifier, np.array([0.25, 0.5, 0.25], np.float32), top_k=2) == {
        "label": "green",
        "top_k": [
            {"label": "green", "probability": 0.5},
            {"label": "red", "probability": 0.25},  # before blue, which is as probable
        ],
    }
    answer = readable(classifier, np.array([0.25, 0.5, 0.25], np.float32), top_k=9)
    assert [entry["label"] for entry in answer["top_k"]] == ["green", "red", "blue"]


def test_the_answer_of_several_labels(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", thresholds=[0.5, 0.1, 0.0])
    answer = readable(OnnxClassifier(bundle), np.array([0.5, 0.25, 0.75], np.float32))
    assert answer["labels"] == ["blue", "green"]  # 0.5 is not above its threshold
    assert [entry["label"] for entry in answer["top_k"]] == ["blue", "red", "green"]
    assert readable(OnnxClassifier(bundle), np.zeros(3, np.float32))["labels"] == []


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
