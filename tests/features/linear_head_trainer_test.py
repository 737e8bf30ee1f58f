import shutil
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.common.feature_store import ROOT_VARIABLE
from allencv.experiments.learning_rate_search import learning_rates_and_losses
from allencv.models import ImageClassifier
from tests.configs import experiment
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.training.callbacks.interruption import metrics_of, train

ENCODER = {
    "type": "timm",
    "model_name": "test_resnet",
    "pretrained": False,
    "requires_grad": False,
}
FIXED = [{"type": "eval", "size": 32}]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "features"))
    return tmp_path / "features"


def linear(config: Dict[str, Any], **trainer: Any) -> Dict[str, Any]:
    vector = {"type": "flatten", "input_channels": 96, "input_height": 1, "input_width": 1}
    changed = with_overrides(
        config,
        {
            "model.im2im_encoder": ENCODER,
            "model.im2vec_encoder": vector,
            "dataset_reader.transforms": FIXED,
        },
    )
    whole = {"type": "linear_head", "cuda_device": -1, "use_amp": False, **trainer}
    return {**changed, "trainer": whole}


@torch.no_grad()
def vectors_of(model: ImageClassifier, reader: Any, folder: Path) -> Any:
    """The vectors of a folder, as they are kept, and the numbers of their labels."""
    instances = list(reader.read(str(folder)))
    images = torch.stack([each["image"].as_tensor({}) for each in instances])
    names = [each["label"].label for each in instances]
    labels = np.array([model.label_names().index(name) for name in names])
    return model.encode(images).half().float().numpy(), labels


def trained(config: Dict[str, Any], folder: Path) -> Any:
    train(config, folder)
    archive = load_archive(folder / "model.tar.gz")
    return archive.model.eval(), archive.validation_dataset_reader


def test_logits_are_those_of_scikit_learn(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = linear(experiment(cats_and_dogs), strength=0.1)
    model, reader = trained(config, tmp_path / "run")
    vectors, labels = vectors_of(model, reader, cats_and_dogs / "train")
    scale = vectors.std(axis=0).max(), np.sqrt(vectors.var(axis=0).mean())
    assert min(scale) > 0
    scaled = (vectors - vectors.mean(axis=0)) / scale[1]
    reference = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
    reference.fit(scaled.astype(np.float64), labels)
    layer = model._classification_layer
    with torch.no_grad():
        logits = layer(torch.from_numpy(vectors)).numpy()
    found = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(found, reference.decision_function(scaled), atol=1e-3)
    metrics = metrics_of(tmp_path / "run")
    assert metrics["training_accuracy"] == (logits.argmax(1) == labels).mean()

    vectors, labels = vectors_of(model, reader, cats_and_dogs / "val")
    with torch.no_grad():
        right = (layer(torch.from_numpy(vectors)).argmax(1).numpy() == labels).mean()
    assert metrics["best_validation_accuracy"] == right


def test_class_means(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = linear(experiment(cats_and_dogs), kind="nearest_class_mean")
    model, reader = trained(config, tmp_path / "run")
    vectors, labels = vectors_of(model, reader, cats_and_dogs / "train")
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = np.stack([directions[labels == label].mean(0) for label in range(2)])
    validation, _ = vectors_of(model, reader, cats_and_dogs / "val")
    with torch.no_grad():
        logits = model._classification_layer(torch.from_numpy(validation)).numpy()
    expected = cosine_similarity(validation, means)
    factors = logits / np.linalg.norm(validation, axis=1, keepdims=True) / expected
    np.testing.assert_allclose(factors, factors.mean(), rtol=1e-4)


def test_a_second_run_gives_the_same_and_computes_nothing(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = linear(experiment(cats_and_dogs))
    first, _ = trained(config, tmp_path / "first")
    images = []
    encode = type(first._im2im_encoder).forward

    def counted(self: Any, batch: torch.Tensor) -> torch.Tensor:
        images.append(len(batch))
        return encode(self, batch)

    monkeypatch.setattr(type(first._im2im_encoder), "forward", counted)
    callbacks = [{"type": "write_predictions", "pictures": 0}]  # pictures use the encoder
    second, _ = trained(
        {**config, "trainer": {**config["trainer"], "callbacks": callbacks}}, tmp_path / "second"
    )
    assert sum(images) == 2  # one of each split, for the shape
    for name, tensor in first.state_dict().items():
        assert tensor.equal(second.state_dict()[name]), name


def test_a_finished_run_that_is_resumed_stays_as_it_is(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = linear(experiment(cats_and_dogs))
    train(config, tmp_path)
    before = metrics_of(tmp_path)
    model = train(config, tmp_path, recover=True)
    after = metrics_of(tmp_path)
    assert after["best_validation_accuracy"] == before["best_validation_accuracy"]
    weights = load_archive(tmp_path / "model.tar.gz").model.state_dict()
    assert all(weights[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_several_labels_for_each_image(cats_and_dogs: Path, tmp_path: Path) -> None:
    write_tables(cats_and_dogs, tmp_path)
    config = linear(multilabel_experiment(tmp_path), validation_metric="+mAP")
    model, reader = trained(config, tmp_path / "run")
    instances = list(reader.read(str(tmp_path / "train.csv")))
    names = model.label_names()
    truth = np.array([[name in each["labels"].labels for name in names] for each in instances])
    with torch.no_grad():
        images = torch.stack([each["image"].as_tensor({}) for each in instances])
        probs = model(images)["probs"].numpy()
    assert probs[:, names.index("Cat")][truth[:, names.index("Cat")]].min() > 0.5
    assert metrics_of(tmp_path / "run")["best_validation_mAP"] > 0.5


@pytest.mark.parametrize(
    ("overrides", "trainer", "message"),
    [
        (
            {"model.im2im_encoder.requires_grad": True},
            {},
            r"_im2im_encoder\.backbone\.conv1.*is trained; expected a frozen encoder",
        ),
        (
            {"model.class_weights": {"Cat": 2.0}},
            {},
            "trainer.type is linear_head, which has no class weights; expected no "
            "model.class_weights",
        ),
        (
            {},
            {"frozen_features": {"views": 8}},
            r"and trainer.frozen_features.views is 8; expected 1",
        ),
        (
            {},
            {"kind": "svm"},
            r"trainer.kind is 'svm'; expected one of logistic_regression, nearest",
        ),
        ({}, {"strength": 0}, r"trainer.strength is 0.*; expected a number above 0"),
        (
            {
                "model.im2im_encoder.pool": False,
                "model.im2vec_encoder": {
                    "type": "flatten",
                    "input_channels": 96,
                    "input_height": 1,
                    "input_width": 1,
                    "feedforward": {
                        "input_dim": 96,
                        "num_layers": 1,
                        "hidden_dims": 6,
                        "activations": "relu",
                    },
                },
            },
            {},
            "but im2vec_encoder is trained; expected one that is frozen",
        ),
    ],
)
def test_what_it_refuses(
    overrides: Dict[str, Any],
    trainer: Dict[str, Any],
    message: str,
    cats_and_dogs: Path,
    tmp_path: Path,
) -> None:
    config = with_overrides(linear(experiment(cats_and_dogs), **trainer), overrides)
    with pytest.raises(ConfigurationError, match=message):
        train(config, tmp_path / "run")


def test_a_label_without_images_that_can_be_read(cats_and_dogs: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(cats_and_dogs, data)
    for file in (data / "train" / "Cat").iterdir():
        file.write_bytes(b"no image")
    config = linear(experiment(data))
    config["data_loader"]["on_error"] = "skip"
    with pytest.raises(ConfigurationError, match="have no image that can be read of Cat; expected"):
        train(config, tmp_path / "run")


def test_it_has_no_learning_rate_to_search_for(cats_and_dogs: Path, tmp_path: Path) -> None:
    params = Params(linear(experiment(cats_and_dogs)))
    with pytest.raises(ConfigurationError, match="LinearHeadTrainer, which has no learning rate"):
        learning_rates_and_losses(params, str(tmp_path))
