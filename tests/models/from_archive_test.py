import json
import logging
import shutil
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.models import BasicImageClassifier, StartFrom
from allencv.models.from_archive import with_archived_model
from allencv.modules.im2im_encoders import Im2ImEncoder, SmallResnetEncoder
from allencv.modules.im2vec_encoders import PoolingEncoder
from allencv.modules.pretrained_weights import pretrained_weights_skipped
from tests.configs import experiment
from tests.conftest import write_images

COUNTS = {"cat": 3, "dog": 4, "eel": 5}


def config(data: Path, **model: Any) -> Dict[str, Any]:
    return experiment(data, trainer__num_epochs=1, data_loader__num_workers=0) | (
        {"model": model} if model else {}
    )


def photos(folder: Path, counts: Dict[str, int]) -> Path:
    for split in ("train", "val"):
        write_images(folder / split, counts)
    return folder


def from_archive(first: Path, **keys: Any) -> Dict[str, Any]:
    return {"type": "from_archive", "archive_file": str(first), **keys}


def trained_further(data: Path, model: Dict[str, Any], folder: Path) -> Path:
    """What `allencv train` does with a config."""
    train_model(with_archived_model(Params(config(data, **model))), str(folder))
    return folder / "model.tar.gz"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    train_model(Params(config(photos(folder / "data", COUNTS))), str(folder / "run"))
    return folder / "run" / "model.tar.gz"


def vocabulary(labels: List[str]) -> Vocabulary:
    return Vocabulary(tokens_to_add={"labels": labels}, non_padded_namespaces=["labels"])


def built(first: Path, labels: List[str], **keys: Any) -> Any:
    params = Params(from_archive(first, **keys))
    return Model.from_params(params, vocab=vocabulary(labels)).eval()


def probabilities(model: Any) -> Dict[str, float]:
    image = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32).remainder(256).byte()
    with torch.no_grad():
        (probs,) = model(image=image)["probs"]
    return dict(zip(model.label_names(), probs.tolist()))


def test_the_order_of_the_labels_does_not_matter(first: Path) -> None:
    expected = probabilities(load_archive(first).model.eval())
    assert set(expected) == set(COUNTS)
    for labels in (["cat", "dog", "eel"], ["eel", "cat", "dog"]):
        model = built(first, labels)
        assert model.label_names() == labels
        assert probabilities(model) == pytest.approx(expected)


def test_labels_without_images_are_kept(first: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model = built(first, ["eel"])
    assert set(model.label_names()[1:]) == {"cat", "dog"}
    assert probabilities(model) == pytest.approx(probabilities(load_archive(first).model.eval()))
    assert any("without images: " in message for message in caplog.messages)


def test_other_labels_are_an_error_that_names_both_sides(first: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        built(first, ["ant", "cat", "bee"])
    for words in (
        str(first),
        "the data have ant, cat, bee",
        "data without ant, bee",
        "model.new_head true",
    ):
        assert words in str(error.value)
    assert {"cat", "dog", "eel"} <= set(str(error.value).replace(",", " ").split())


def test_a_new_head_for_other_labels(first: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    model, trained = built(first, ["ant", "bee"], new_head=True), load_archive(first).model
    assert model.label_names() == ["ant", "bee"]
    state = trained.state_dict()
    for name, value in model.state_dict().items():
        if name.startswith("_classification_layer"):
            assert value.shape[0] == 2
        else:
            assert value.equal(state[name])
    (message,) = [message for message in caplog.messages if "last layer" in message]
    assert "is kept" in message
    assert message.endswith("the last layer is made anew, for the labels ant, bee")


def test_the_new_archive_does_not_need_the_first(first: Path, tmp_path: Path) -> None:
    moved = shutil.copy(first, tmp_path / "first.tar.gz")
    data = photos(tmp_path / "data", {"ant": 3, "bee": 3, "cow": 2, "doe": 2})
    model = from_archive(moved, new_head=True)
    second = trained_further(data, model, tmp_path / "second")
    third = trained_further(data, from_archive(second), tmp_path / "third")
    moved.unlink()
    second.rename(tmp_path / "elsewhere.tar.gz")
    for archive in (tmp_path / "elsewhere.tar.gz", third, third.parent):
        found = load_archive(archive).model
        assert set(found.label_names()) == {"ant", "bee", "cow", "doe"}
    saved = torch.load(third.parent / "best.th", weights_only=True)
    assert all(saved[name].equal(value) for name, value in found.state_dict().items())


def test_recovery_takes_the_same_config(first: Path, tmp_path: Path) -> None:
    data = photos(tmp_path / "data", COUNTS)
    trained_further(data, from_archive(first), tmp_path / "run")
    params = with_archived_model(Params(config(data, **from_archive(first))))
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert params.as_dict(quiet=True) == written
    train_model(params, str(tmp_path / "run"), recover=True)


@Im2ImEncoder.register("pretrained_by_default")
class PretrainedByDefault(SmallResnetEncoder):
    downloads = 0

    def __init__(self) -> None:
        super().__init__([8, 16])
        PretrainedByDefault.downloads += not pretrained_weights_skipped()


def test_no_weights_are_downloaded(tmp_path: Path) -> None:
    """Those that the first training began with are in the archive."""
    data = photos(tmp_path / "data", COUNTS)
    model = {**experiment(data)["model"], "im2im_encoder": "pretrained_by_default"}
    train_model(Params(config(data, **model)), str(tmp_path / "run"))
    assert PretrainedByDefault.downloads == 1
    trained_further(data, from_archive(tmp_path / "run"), tmp_path / "second")
    load_archive(tmp_path / "second")
    assert PretrainedByDefault.downloads == 1


def test_in_python(first: Path) -> None:
    def encoders(width: int) -> Dict[str, Any]:
        small = {"type": "small_resnet", "widths": [8, width], "blocks": [1, 1]}
        return {
            "im2im_encoder": Im2ImEncoder.from_params(Params(small)),
            "im2vec_encoder": PoolingEncoder(width),
        }

    start_from = StartFrom(str(first))
    model = BasicImageClassifier(vocabulary(["dog"]), **encoders(16), start_from=start_from)
    assert probabilities(model.eval()) == pytest.approx(
        probabilities(load_archive(first).model.eval())
    )
    with pytest.raises(ConfigurationError, match=r"has no weights that fit _im2im_encoder.* con"):
        BasicImageClassifier(vocabulary(["dog"]), **encoders(8), start_from=start_from)


def test_keys_that_speak_of_labels_are_not_taken_for_other_labels(tmp_path: Path) -> None:
    data = photos(tmp_path / "data", COUNTS)
    model = {**experiment(data)["model"], "class_weights": {"cat": 2.0}, "num_labels": 3}
    train_model(Params(config(data, **model)), str(tmp_path / "run"))
    kept = with_archived_model(Params({"model": from_archive(tmp_path / "run")}))["model"]
    assert kept["class_weights"].as_dict() == {"cat": 2.0}
    found = built(tmp_path / "run", ["ant", "bee"], new_head=True)
    assert found.label_names() == ["ant", "bee"]


def test_what_is_no_such_config(first: Path) -> None:
    plain = Params({"model": {"type": "basic_image_classifier"}})
    assert with_archived_model(plain) is plain
    with pytest.raises(ConfigurationError, match="a key of model is 'dropout'; expected one of"):
        with_archived_model(Params({"model": from_archive(first, dropout=0.5)}))
    with pytest.raises(ConfigurationError, match="no model archive at 'nowhere'"):
        with_archived_model(Params({"model": from_archive(Path("nowhere"))}))


def test_an_archive_without_a_key_is_refused() -> None:
    config = Params({"type": "basic_image_classifier", "start_from": "model.tar.gz"})
    with pytest.raises(ConfigurationError, match="model.start_from is 'model.tar.gz'; expected an"):
        Model.from_params(config, vocab=vocabulary(["dog"]))
