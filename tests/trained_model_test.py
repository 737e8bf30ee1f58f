import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import allencv
import allencv.plugin
from allencv.runtime import BundleError, ImageError
from allencv.runtime.certainty import LabelSets, Selection, UnknownRule
from allencv.runtime.errors import InputError
from allencv.trained_model import BATCH, Prediction, Predictions
from tests.conftest import ROOT
from tests.runtime.certainty.certainties import certainty
from tests.runtime.tiny_bundle import LABELS, SCALE, write_bundle

RED, BLUE = (255, 0, 0), (0, 0, 255)


def square(color: Any, size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), color)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "colours")


def test_one_image_in_any_form(bundle: Path, tmp_path: Path) -> None:
    square(RED).save(tmp_path / "red.png")
    file = tmp_path / "red.png"
    expected = np.exp(SCALE) / (np.exp(SCALE) + 2)
    for image in (str(file), file, file.read_bytes(), square(RED), np.asarray(square(RED))):
        prediction = allencv.load(bundle).predict(image)
        assert prediction.labels == [prediction.label] == ["red"]
        assert list(prediction.probabilities) == LABELS
        assert prediction.probabilities["red"] == pytest.approx(expected, rel=1e-5)
        assert prediction.error is None


def test_a_list_keeps_its_order_and_loses_no_image(bundle: Path, tmp_path: Path) -> None:
    model = allencv.load(bundle)
    (tmp_path / "text.jpg").write_text("text")
    images = [square(BLUE if number % 3 else RED) for number in range(BATCH + 5)]
    predictions = model.predict([*images, tmp_path / "text.jpg", square(BLUE)])
    labels = [prediction.label for prediction in predictions]
    colours = ["blue" if number % 3 else "red" for number in range(BATCH + 5)]
    assert labels == [*colours, None, "blue"]
    assert "text.jpg" in str(predictions[-2].error)
    assert model.predict([]) == []
    with pytest.raises(ImageError, match=r"text\.jpg"):
        model.predict(tmp_path / "text.jpg")


def test_an_image_that_the_network_does_not_take_costs_no_other_its_answer(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = allencv.load(bundle)
    classify = model.classifier.probabilities

    def only_squares(images: np.ndarray) -> np.ndarray:
        if images.shape[1] != images.shape[2]:
            raise ImageError("not a square")
        return classify(images)

    monkeypatch.setattr(model.classifier, "probabilities", only_squares)
    monkeypatch.setattr(model.classifier, "preprocess", np.asarray)
    flat = Image.new("RGB", (16, 2))
    first, second = model.predict([flat, square(RED)])
    assert (first.error, second.label) == ("not a square", "red")
    with pytest.raises(ImageError, match="^not a square$"):
        model.predict(flat)


def test_several_labels(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "colours", thresholds=[0.6, 0.6, 0.6])
    magenta, black = allencv.load(bundle).predict([square((255, 0, 255)), square((0, 0, 0))])
    assert magenta.labels == ["red", "blue"]
    assert (black.labels, black.label, black.error) == ([], None, None)


def test_an_archive_answers_as_its_bundle_does(
    cats_and_dogs: Path, trained_run: Path, tmp_path: Path
) -> None:
    images = sorted((cats_and_dogs / "test").rglob("*.jpg"))
    manifest = allencv.export(trained_run / "model.tar.gz", tmp_path / "bundle")
    archive, bundle = map(allencv.load, (trained_run, tmp_path / "bundle"))
    assert manifest.labels == archive.labels == bundle.labels
    for first, second in zip(archive.predict(images), bundle.predict(images), strict=True):
        assert first.probabilities == pytest.approx(second.probabilities, abs=1e-4)
        assert len(first.labels) == 1


def test_arguments_for_the_other_kind_of_model(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a bundle; expected no device"):
        allencv.load(bundle, device="cpu")
    with pytest.raises(InputError, match=r"is an archive; expected no engine"):
        allencv.load(tmp_path, engine="onnxruntime")
    (bundle / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="checksum"):
        allencv.load(bundle)


@pytest.mark.parametrize("name", ["nothere", "runs/first/model.tar.gz"])
def test_there_is_no_model(name: str) -> None:
    with pytest.raises(
        InputError, match=f"^no model at '{name}'; expected an archive .* a bundle$"
    ):
        allencv.load(name)
    with pytest.raises(InputError, match="no model at"):
        allencv.load(Path(name))


def test_a_notebook_shows_a_list_as_a_table(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "<b>.jpg").write_text("text")
    predictions = allencv.load(bundle).predict([square(RED), tmp_path / "<b>.jpg"])
    assert isinstance(predictions, list)
    shown = predictions._repr_html_()
    assert shown.count("<tr>") == 2
    assert "<td>0</td><td>red</td><td>99.9%</td>" in shown
    assert "&lt;b&gt;.jpg" in shown
    several = Predictions([Prediction(["a", "b"], {"a": 0.75, "b": 0.5}), Prediction([], {"a": 0})])
    assert "<td>a, b</td><td>75.0%</td>" in several._repr_html_()
    assert "<td>no label</td><td>0.0%</td>" in several._repr_html_()
    assert pickle.loads(pickle.dumps(predictions)) == predictions


def test_what_a_calibrated_model_decides(tmp_path: Path) -> None:
    found = certainty(
        sets=LabelSets("lac", [0.95], [[0.8]]),
        selection=Selection(0.99, 0.95, 0.7, 0.92, 0.995),
        unknown=UnknownRule("max_probability", 0.4, 0.95),
    )
    model = allencv.load(write_bundle(tmp_path / "calibrated", certainty=found))
    images = [square(color) for color in ((128, 128, 128), (210, 185, 60), (210, 170, 60), RED)]
    unknown, unsure, two, red = predictions = model.predict(images)
    assert (unknown.label, unknown.is_unknown, unknown.is_answered) == ("red", True, False)
    assert (unsure.label, unsure.is_unknown, unsure.is_answered) == ("red", False, False)
    assert (two.labels, two.possible_labels, two.is_answered) == (["red"], ["red", "green"], True)
    assert (red.possible_labels, red.is_unknown) == (["red"], False)
    assert repr(unknown).endswith("; unknown: unlike the training images)")
    assert repr(two).endswith("; possible: red, green)")
    assert repr(red).endswith(")")
    assert ";" not in repr(red)
    assert "<p>not answered: hand to a person</p>" not in two._repr_html_()
    assert unsure._repr_html_().startswith(
        "<p>possible: red, green</p><p>not answered: hand to a person</p><table>"
    )
    shown = predictions._repr_html_()
    assert "<td>unknown: unlike the training images</td></tr>" in shown
    assert shown.endswith("<td></td></tr></table>")


def test_predictions_and_models_read_well(bundle: Path) -> None:
    model = allencv.load(bundle)
    assert repr(model) == "TrainedModel('colours': one label an image, of 3: red, green, blue)"
    prediction = Prediction(["cat"], {"cat": 0.75, "<b>": 0.25})
    assert repr(prediction) == "Prediction(['cat']: cat 0.750, <b> 0.250)"
    assert "&lt;b&gt;" in prediction._repr_html_()
    assert "75.0%" in prediction._repr_html_()
    many = Prediction(["0"], {str(number): 0.1 for number in range(10)})
    assert repr(many).endswith("4 0.100, 5 more)")
    assert list(many.top(2)) == ["0", "1"]
    assert repr(Prediction(error="no <file>")) == "Prediction(error='no <file>')"
    assert "no &lt;file&gt;" in Prediction(error="no <file>")._repr_html_()
    assert pickle.loads(pickle.dumps(prediction)) == prediction


def test_a_bundle_needs_no_torch_and_importing_nothing_at_all(bundle: Path) -> None:
    code = f"""
import json, sys
import allencv
before = [name for name in sys.modules if name.startswith("allencv.")]
labels = allencv.load({str(bundle)!r}).labels
print(json.dumps([before, labels, "torch" in sys.modules, "allennlp" in sys.modules]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == [["allencv.deferred_imports"], LABELS, False, False]


def test_the_names_at_the_top() -> None:
    assert allencv.AllenCVError in ImageError.__mro__
    for name in allencv.__all__:
        assert callable(getattr(allencv, name))
        assert name in dir(allencv)
    with pytest.raises(AttributeError, match="'allencv' has no attribute 'lode'"):
        allencv.lode  # noqa: B018
