import json
import logging
from pathlib import Path
from typing import Any, Dict, Iterator

import numpy as np
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model, load_archive
from allennlp.training.callbacks import TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.predictions.predict import as_pillow, predict, take_pictures
from allencv.predictions.predictions_file import Predictions, pictured
from allencv.predictors import ImageClassifierPredictor
from allencv.training.callbacks.write_predictions import WritePredictions
from tests.configs import experiment
from tests.models.multilabel_data import LABELS, multilabel_experiment, write_tables


@TrainerCallback.register("test_spoil_weights")
class SpoilWeights(TrainerCallback):
    """Makes the last epoch the worst, so that the best weights are not the last ones."""

    def on_batch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer._epochs_completed == 2:
            with torch.no_grad():
                trainer.model._classification_layer.weight.zero_()


def train(folder: Path, config: Dict[str, Any]) -> Path:
    config["trainer"] |= {"use_amp": False, "validation_metric": "-loss"}
    config["trainer"].setdefault("callbacks", [{"type": "write_predictions", "pictures": 3}])
    train_model(Params(config), str(folder))
    return folder


@pytest.fixture(scope="module")
def run(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    callbacks = [{"type": "test_spoil_weights"}, {"type": "write_predictions", "pictures": 3}]
    config = experiment(cats_and_dogs, trainer__callbacks=callbacks)
    return train(tmp_path_factory.mktemp("single") / "run", config)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, also where training has been set up to hold it back."""
    root = logging.getLogger()
    root.addHandler(caplog.handler)
    yield caplog
    root.removeHandler(caplog.handler)


def test_they_are_those_of_the_archive(run: Path, cats_and_dogs: Path) -> None:
    found = Predictions.load(run / "predictions" / "validation.npz")
    assert found.names == sorted(map(str, (cats_and_dogs / "val").rglob("*.jpg")))
    true = [Path(name).parent.name for name in found.names]
    assert [found.labels[target] for target in found.targets] == true
    predictor = ImageClassifierPredictor.from_path(run / "model.tar.gz", import_plugins=False)
    expected = [predictor.predict(name)["probs"] for name in found.names]
    assert np.allclose(found.probs, expected, atol=1e-5)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["best_epoch"] < 2, "else this does not tell the best weights from the last"
    accuracy = (found.given == found.targets).mean()
    assert accuracy == pytest.approx(metrics["best_validation_accuracy"])


def test_pictures_are_what_the_network_sees(run: Path) -> None:
    found = Predictions.load(run / "predictions" / "validation.npz")
    chosen = pictured(found, 3)
    assert list(found.pictures) == chosen
    assert 3 <= len(chosen) <= 9
    archive = load_archive(run)
    reader, model = archive.validation_dataset_reader, archive.model.eval()
    for image, label in chosen:
        picture = found.pictures[image, label]
        pixels = reader.text_to_instance(found.names[image])["image"].as_tensor({})
        shown = as_pillow(pixels)
        assert shown.size == (32, 32)
        # Shape: (height, width, channels)
        assert np.array_equal(np.asarray(shown), pixels.permute(1, 2, 0).numpy())
        assert picture.jpeg.startswith(b"\xff\xd8\xff")
        features = model._im2im_encoder(model.normalize(pixels[None]))
        (gradient,) = torch.autograd.grad(
            model._classification_layer(model._im2vec_encoder(features))[0, label], features
        )
        expected = (features * gradient.mean((2, 3), keepdim=True)).sum(1).relu()[0]
        expected = expected / expected.max().clamp(min=1e-12)
        assert picture.heat is not None
        assert np.allclose(picture.heat, expected.detach().numpy(), atol=2e-3)  # float16


def test_what_is_known_when_training_starts(run: Path) -> None:
    facts = json.loads((run / "predictions" / "run.json").read_text())
    assert facts["train"] == {"images": 24, "labels": {"Cat": 12, "Dog": 12}}
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"python", "allencv", "allennlp", "numpy"} <= set(facts["versions"])
    assert facts["device"].startswith("cpu")
    assert sorted(path.name for path in (run / "predictions").iterdir()) == [
        "run.json",
        "validation.npz",
    ]


def test_several_labels(cats_and_dogs: Path, tmp_path: Path) -> None:
    write_tables(cats_and_dogs, tmp_path)
    config = multilabel_experiment(tmp_path, model__thresholds="tune")
    found = Predictions.load(train(tmp_path / "run", config) / "predictions" / "validation.npz")
    assert sorted(found.labels) == sorted(LABELS)
    assert found.multi_label
    model = load_archive(tmp_path / "run" / "model.tar.gz").model
    assert found.thresholds == pytest.approx(list(model.get_thresholds().values()))
    for name, target in zip(found.names, found.targets):
        path = Path(name)
        labels = {label for label, there in zip(found.labels, target) if there}
        assert (path.parent.name in labels) == (path.parent.name == "Cat" or path.stem != "000")
    assert found.pictures
    facts = json.loads((tmp_path / "run" / "predictions" / "run.json").read_text())
    assert facts["train"]["images"] == 24


def test_the_run_is_the_same_without(run: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(
        cats_and_dogs,
        trainer__callbacks=[{"type": "test_spoil_weights"}],
        trainer__enable_default_callbacks=False,
    )
    train(tmp_path / "run", config)
    assert not (tmp_path / "run" / "predictions").exists()
    ours, others = (
        json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "run")
    )
    for key in others:
        if not key.endswith(("_duration", "_memory_MB")):
            assert ours[key] == others[key], key


def test_it_is_a_default_callback(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(
        cats_and_dogs,
        test_data_path=str(cats_and_dogs / "test"),
        evaluate_on_test=True,
        trainer__num_epochs=1,
        trainer__use_amp=False,
    )
    train_model(Params(config), str(tmp_path / "run"))
    folder = tmp_path / "run" / "predictions"
    found = sorted(path.name for path in folder.iterdir())
    assert found == ["run.json", "test.npz", "validation.npz"]
    predictions = Predictions.load(folder / "test.npz")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    accuracy = (predictions.given == predictions.targets).mean()
    assert accuracy == pytest.approx(metrics["test_accuracy"])


def test_no_model_is_lost_for_a_picture(
    cats_and_dogs: Path, tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "predictions").mkdir()
    (tmp_path / "run" / "predictions" / "validation.npz").mkdir()  # nothing can be written there
    callback = WritePredictions(str(tmp_path / "run"))
    loader = _loader(cats_and_dogs)
    callback.write("validation", _model(cats_and_dogs), loader)
    assert "The validation predictions could not be written" in logged.text


def test_floats_are_made_visible() -> None:
    image = torch.stack([torch.full((4, 6), value) for value in (-2.0, 0.0, 2.0)])
    picture = as_pillow(image)
    assert picture.size == (6, 4)
    assert picture.getpixel((0, 0)) == (0, 128, 255)
    assert as_pillow(torch.full((1, 4, 4), 7, dtype=torch.uint8)).getpixel((0, 0)) == (7, 7, 7)


def test_images_without_labels(cats_and_dogs: Path, tmp_path: Path) -> None:
    loader = _loader(cats_and_dogs)
    batches = [{k: v for k, v in batch.items() if k != "label"} for batch in loader]
    callback = WritePredictions(str(tmp_path))
    callback.write("test", _model(cats_and_dogs), batches)
    assert not (tmp_path / "predictions").exists()


def test_an_image_that_comes_twice_counts_once(cats_and_dogs: Path) -> None:
    """As where ranks fill up their shares; but two labels of one image are two."""
    loader, model = _loader(cats_and_dogs), _model(cats_and_dogs)
    once = predict(model, loader)
    batches = list(loader)
    twice = predict(model, [*batches, batches[0]])
    assert once is not None
    assert twice is not None
    assert len(set(once.names)) == len(once.names) == 10
    assert twice.names == once.names
    assert np.array_equal(twice.probs, once.probs)
    other = predict(model, [*batches, {**batches[0], "label": 1 - batches[0]["label"]}])
    assert other is not None
    assert len(other.names) == 14


def test_a_picture_of_a_chosen_image_only(cats_and_dogs: Path, run: Path) -> None:
    found = Predictions.load(run / "predictions" / "validation.npz")
    loader = _loader(cats_and_dogs)
    pictures = take_pictures(_model(cats_and_dogs), loader, found, [(4, 1), (2, 0), (4, 0)])
    assert list(pictures) == [(4, 1), (2, 0), (4, 0)]
    assert pictures[4, 1].jpeg == pictures[4, 0].jpeg != pictures[2, 0].jpeg


def test_bad_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pictures of the .* is -1; expected at least 0"):
        TrainerCallback.from_params(
            Params({"type": "write_predictions", "pictures": -1}), serialization_dir=str(tmp_path)
        )
    with pytest.raises(ConfigurationError, match="picturs"):
        TrainerCallback.from_params(
            Params({"type": "write_predictions", "picturs": 1}), serialization_dir=str(tmp_path)
        )


def _loader(data: Path) -> Any:
    from allennlp.data import DataLoader, DatasetReader, Vocabulary

    config = experiment(data)
    reader = DatasetReader.from_params(Params(config["validation_dataset_reader"]))
    loader = DataLoader.from_params(
        Params({"type": "image", "batch_size": 4, "num_workers": 0}),
        reader=reader,
        data_path=str(data / "val"),
    )
    loader.index_with(Vocabulary({"labels": {"Cat": 1, "Dog": 1}}))
    return loader


def _model(data: Path) -> Model:
    from allennlp.data import Vocabulary

    vocab = Vocabulary({"labels": {"Cat": 1, "Dog": 1}})
    return Model.from_params(Params(experiment(data)["model"]), vocab=vocab)
