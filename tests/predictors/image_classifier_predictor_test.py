import base64
import http.server
import json
import threading
from functools import partial
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.predictors import Predictor
from PIL import Image

import allencv.plugin  # noqa: F401
from allencv.predictors import ImageClassifierPredictor
from allencv.runtime import Preprocessing
from tests.models.multilabel_data import multilabel_experiment, write_tables


@pytest.fixture(scope="module")
def archive(trained_run: Path) -> Path:
    return trained_run / "model.tar.gz"


@pytest.fixture
def predictor(archive: Path) -> ImageClassifierPredictor:
    return ImageClassifierPredictor.from_path(archive, import_plugins=False)


@pytest.fixture
def cat(cats_and_dogs: Path) -> Path:
    return cats_and_dogs / "test" / "Cat" / "000.jpg"


def test_it_is_the_validation_preprocessing_and_the_model(
    predictor: ImageClassifierPredictor, cat: Path
) -> None:
    pixels = torch.from_numpy(Preprocessing(32, 32)(cat).copy()).permute(2, 0, 1)[None]
    model = predictor._model
    with torch.no_grad():
        expected = model(image=pixels)["probs"][0]
    answer = predictor.predict(str(cat))
    assert torch.equal(torch.tensor(answer["probs"]), expected)
    labels = model.vocab.get_index_to_token_vocabulary("labels")
    assert answer["label"] == labels[int(expected.argmax())]
    assert [entry["probability"] for entry in answer["top_k"]] == sorted(answer["probs"])[::-1]
    assert answer["metadata"] == {"image": str(cat)}


def test_every_form_of_the_same_image_gets_the_same_answer(
    predictor: ImageClassifierPredictor, cat: Path
) -> None:
    data = cat.read_bytes()
    pixels = np.asarray(Image.open(cat))
    answers = predictor.predict_batch_json(
        [
            {"image": str(cat)},
            {"image_base64": base64.b64encode(data).decode()},
            {"image_array": pixels.tolist()},
        ]
    )
    answers += [predictor.predict(data), predictor.predict(pixels)]
    for answer in answers:
        # not to the bit: sums over a batch of another size are added up in another order
        assert answer["probs"] == pytest.approx(answers[0]["probs"], abs=1e-6)


def test_what_python_has_is_answered_alike(predictor: ImageClassifierPredictor, cat: Path) -> None:
    """One image gets an answer, and a list or a tuple a list of them, also of a single one."""
    with Image.open(cat) as image:
        image.load()
    forms = [str(cat), cat, cat.read_bytes(), image, np.asarray(image), {"image": str(cat)}]
    forms.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    expected = pytest.approx(predictor.predict(str(cat))["probs"], abs=1e-6)
    for answer in [*map(predictor.predict, forms), *predictor.predict(forms)]:
        assert answer["probs"] == expected
    (answer,) = predictor.predict((cat,))
    assert answer["probs"] == expected
    assert predictor.predict([]) == []


def test_what_is_no_image_costs_no_other_an_answer(
    predictor: ImageClassifierPredictor, cat: Path
) -> None:
    good, missing, number, nested, of_pixels = predictor.predict(
        [cat, "nowhere.jpg", 7, [cat], np.zeros((2, 2, 9), np.uint8)]  # type: ignore[list-item]
    )
    assert good["probs"] == pytest.approx(predictor.predict(cat)["probs"], abs=1e-6)
    assert missing["error"] == "nowhere.jpg: No such file or directory"
    assert number["error"].startswith("7 is a int; expected a path, a URL, the bytes of a file")
    assert "is a list; expected a path" in nested["error"]
    assert "(2, 2, 9)" in of_pixels["error"]
    assert predictor.predict("nowhere.jpg")["error"] == missing["error"]


def test_lines_of_input_are_json_or_paths(predictor: ImageClassifierPredictor) -> None:
    assert predictor.load_line('{"image": "a.jpg"}\n') == {"image": "a.jpg"}
    assert predictor.load_line('"a.jpg"\n') == predictor.load_line("a.jpg\n") == "a.jpg"


@pytest.fixture
def server(cats_and_dogs: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(cats_and_dogs))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url_is_fetched(
    predictor: ImageClassifierPredictor, server: str, cat: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("allennlp.common.file_utils.CACHE_DIRECTORY", str(tmp_path))
    answer = predictor.predict_json({"image": f"{server}/test/Cat/000.jpg"})
    assert answer["probs"] == predictor.predict(str(cat))["probs"]
    assert answer["metadata"] == {"image": f"{server}/test/Cat/000.jpg"}
    missing = predictor.predict_json({"image": f"{server}/nowhere.jpg"})
    assert "nowhere.jpg" in missing["error"]


def test_one_bad_image_spoils_none_of_the_others(
    predictor: ImageClassifierPredictor, cat: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.jpg").write_bytes(cat.read_bytes()[:200])
    (tmp_path / "text.jpg").write_text("a text")
    inputs: list[Any] = [
        {"image": str(tmp_path / "cut.jpg")},
        {"image": str(cat)},
        {"image": str(tmp_path / "nowhere.jpg")},
        {"image_base64": "%%%"},
        {"image": str(cat)},
        {"image_array": [[[300, 0, 0]]]},
        {"picture": "a.jpg"},
        {"image": str(tmp_path / "text.jpg")},
        {"image": 7},
        str(cat),
        '{"image": ',
        [str(cat)],
        None,
    ]
    answers = predictor.predict_batch_json(inputs)
    reasons = [
        "cut.jpg: ",
        None,
        "nowhere.jpg: No such file",
        "image_base64 is not base64 text",
        None,
        "image_array is not an array of 0 to 255",
        "the keys ['picture']; expected exactly one of image, image_base64, image_array",
        "not an image",
        "image is 7; expected a path or a URL",
        None,
        """'{"image": ' is not a JSON object; expected one with a key of image, """,
        "000.jpg'] is not a JSON object",
        "None is not a JSON object",
    ]
    assert len(answers) == len(reasons)
    for answer, reason in zip(answers, reasons):
        if reason is None:
            expected = predictor.predict(str(cat))["probs"]
            assert answer["probs"] == pytest.approx(expected, abs=1e-6)
        else:
            assert reason in answer["error"]
            assert "probs" not in answer
    assert "error" in predictor.predict_json(inputs[0])


def test_a_model_of_several_labels(cats_and_dogs: Path, cat: Path, tmp_path: Path) -> None:
    thresholds = {"Cat": 0.0, "Dog": 0.0, "small": 0.999}
    folder = write_tables(cats_and_dogs, tmp_path)
    config = multilabel_experiment(
        folder, trainer__num_epochs=1, **{"model__thresholds": thresholds}
    )
    train_model(Params(config), tmp_path / "run")
    predictor = ImageClassifierPredictor.from_path(tmp_path / "run", import_plugins=False)
    (answer,) = predictor.predict_batch_json([{"image": str(cat)}])
    probs = dict(zip(predictor._model.label_names(), answer["probs"]))
    assert json.loads(json.dumps(answer)) == answer
    assert [entry["label"] for entry in answer["top_k"]] == sorted(probs, key=lambda it: -probs[it])
    present = [label for label in probs if probs[label] > {"even": 0.5, **thresholds}[label]]
    assert answer["labels"] == sorted(present, key=lambda label: -probs[label])
    assert {"Cat", "Dog"} <= set(answer["labels"]) <= {"Cat", "Dog", "even"}
    assert "label" not in answer
    assert answer["metadata"] == {"image": str(cat)}


def test_both_names_are_registered() -> None:
    assert Predictor.by_name("image_classifier") is ImageClassifierPredictor
    assert Predictor.by_name("default_image") is ImageClassifierPredictor


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no model archive at '.*none.tar.gz'"):
        ImageClassifierPredictor.from_path(tmp_path / "none.tar.gz", import_plugins=False)
