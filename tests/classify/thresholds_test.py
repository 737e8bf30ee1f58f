from pathlib import Path
from typing import List, Optional

import pytest

from allencv.classify.thresholds import given_thresholds
from allencv.runtime.errors import InputError
from allencv.runtime.onnx_classifier import OnnxClassifier
from tests.runtime.tiny_bundle import LABELS, write_bundle


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> OnnxClassifier:
    folder = tmp_path_factory.mktemp("bundles") / "colours"
    return OnnxClassifier(write_bundle(folder, LABELS, [0.9, 0.8, 0.7]))


@pytest.mark.parametrize(
    ("threshold", "content", "expected"),
    [
        (None, None, [0.9, 0.8, 0.7]),
        (0.25, None, [0.25, 0.25, 0.25]),
        (None, '{"blue": 0, "red": 0.5}', [0.5, 0.8, 0]),
        (None, "{}", [0.9, 0.8, 0.7]),
    ],
)
def test_what_is_given_takes_the_place_of_the_models(
    classifier: OnnxClassifier,
    tmp_path: Path,
    threshold: Optional[float],
    content: Optional[str],
    expected: List[float],
) -> None:
    file = tmp_path / "t.json"
    file.write_text(content or "")
    given = given_thresholds(classifier, threshold, str(file) if content else None)
    assert given == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"green": 1}', r"t.json', 'green' is 1; expected a number in \[0, 1\)"),
        ('{"green": true}', r"'green' is True; expected a number"),
        ('{"gren": 0.5}', r"t.json' has 'gren'; expected labels of the model, such as 'green'"),
        ("[0.5]", r"t.json': expected an object of labels"),
        ("0.5}", r"t.json' cannot be read: "),
        (None, r"t.json' cannot be read: .*No such file"),
    ],
)
def test_a_bad_file(
    classifier: OnnxClassifier, tmp_path: Path, content: Optional[str], message: str
) -> None:
    file = tmp_path / "t.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        given_thresholds(classifier, None, str(file))


@pytest.mark.parametrize("threshold", [1.0, -0.1, float("nan")])
def test_a_bad_number(classifier: OnnxClassifier, threshold: float) -> None:
    with pytest.raises(InputError, match=r"--threshold is .*; expected a number in \[0, 1\)"):
        given_thresholds(classifier, threshold, None)


def test_a_model_of_one_label_has_none(tmp_path: Path) -> None:
    classifier = OnnxClassifier(write_bundle(tmp_path / "colours"))
    assert given_thresholds(classifier, None, None) is None
    with pytest.raises(InputError, match=r"'colours' gives each image one label; --threshold and"):
        given_thresholds(classifier, 0.5, None)
