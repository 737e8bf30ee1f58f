"""Evaluation gives the same on any number of ranks: metrics, thresholds and predictions."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest
import torch
import torch.distributed as dist
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.models import Model
from allennlp.training import Trainer
from allennlp.training.metrics import Metric
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

import allencv.plugin  # noqa: F401
from allencv.predictions.predict import predict
from allencv.predictions.predictions_file import Predictions
from allencv.training import ImageEvaluator
from allencv.training.callbacks.write_predictions import WritePredictions
from allencv.training.trainer_access import validate
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables
from tests.ranks import on_ranks

LABELS = ["Ant", "Bee", "Cat"]
NETWORK = {
    "im2im_encoder": {"type": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
    "im2vec_encoder": {"type": "pooling", "input_channels": 8},
}
METRICS: Dict[str, Any] = {
    **{name: name for name in ("auroc", "average_precision", "f1_score", "calibration_error")},
    "macro_f1": {"type": "f1_score", "average": "macro"},
    "by_class": "per_class",
    "balanced": "balanced_accuracy",
    "confusions": "confusion_matrix",
    "hinge": "hinge_loss",
    # AllenNLP's exchange their counts at every batch; the last knows nothing of ranks.
    "theirs": {"type": "fbeta", "average": "macro"},
    "their_accuracy": "categorical_accuracy",
    "order": "order_of_labels",
}


@Metric.register("order_of_labels")
class OrderOfLabels(Metric):
    """A user's metric that depends on the order of the images."""

    def __init__(self) -> None:
        self.labels: List[int] = []

    def __call__(self, predictions: torch.Tensor, gold_labels: torch.Tensor) -> None:
        self.labels += gold_labels.tolist()

    def get_metric(self, reset: bool = False) -> float:
        labels = self.labels
        if reset:
            self.labels = []
        return float(sum(place * label for place, label in enumerate(labels)))


def vocabulary() -> Vocabulary:
    vocab = Vocabulary()
    for label in LABELS:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def classifier(**arguments: Any) -> Model:
    torch.manual_seed(0)
    config = {"type": "basic_image_classifier", "metrics": METRICS, "top_k": 2, **arguments}
    model = Model.from_params(Params(deepcopy({**NETWORK, **config})), vocab=vocabulary())
    # Training leaves each rank with its own running statistics; the first rank saves the model.
    if dist.is_initialized() and dist.get_rank() > 0:
        for buffer in model.buffers():
            buffer.add_(1)
    return model


def loader(data: Any, reader: str = "image_folder", **arguments: Any) -> DataLoader:
    transforms = [{"type": "eval", "size": 32}]
    config = {"type": "image", "batch_size": 4, "num_workers": 0, **arguments}
    images = DataLoader.from_params(
        Params(config),
        reader=DatasetReader.from_params(Params({"type": reader, "transforms": transforms})),
        data_path=str(data),
    )
    images.index_with(vocabulary())
    return images


TRAINING_LOADER = {"shuffle": True, "drop_last": True, "class_weighting": "balanced", "seed": 3}


def evaluated(data: Path, output: Path) -> Dict[str, Any]:
    """What each of the ranks finds, with the loader of a config that has only one, for training."""
    name = f"{dist.get_world_size()}.jsonl" if dist.is_initialized() else "alone.jsonl"
    model, images = classifier(class_weights={"Cat": 5.0}), loader(data, **TRAINING_LOADER)
    metrics = ImageEvaluator()(model, images, "", None, output / name)
    return {"metrics": metrics, "predictions": as_lists(predict(model, images))}


def as_lists(predictions: Any) -> List[Any]:
    assert isinstance(predictions, Predictions)
    return [predictions.names, predictions.probs.tolist(), predictions.targets.tolist()]


@pytest.fixture(scope="module", params=[(7, 3, 1), (4, 0, 0), (19, 1, 0)])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three batches; one batch, so that ranks have no image; classes on one rank only."""
    counts = {label: count for label, count in zip(LABELS, request.param) if count}
    return write_images(tmp_path_factory.mktemp("images"), counts, size=32)


def test_evaluation_is_the_same_on_any_number_of_ranks(data: Path, tmp_path: Path) -> None:
    alone = evaluated(data, tmp_path)
    loss = alone["metrics"].pop("loss")
    lines = (tmp_path / "alone.jsonl").read_bytes()
    for ranks in (1, 2, 3):
        for found in on_ranks(ranks, evaluated, data, tmp_path):
            # Batches are the same, and their losses; the sum depends on the order, in float64.
            assert found["metrics"].pop("loss") == pytest.approx(loss, rel=1e-12)
            assert repr(found) == repr(alone)  # also NaN, and the order of the names
        assert (tmp_path / f"{ranks}.jsonl").read_bytes() == lines


def test_it_is_scikit_learns(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", dict(zip(LABELS, (7, 3, 2))), size=32)
    for found in on_ranks(2, evaluated, data, tmp_path):
        metrics, (names, probs, targets) = found["metrics"], found["predictions"]
        assert names == sorted(map(str, data.glob("*/*.jpg")))
        given, one_hot = np.argmax(probs, 1), np.eye(3)[targets]
        assert metrics["accuracy"] == accuracy_score(targets, given)
        assert metrics["their_accuracy"] == accuracy_score(targets, given)
        macro = f1_score(targets, given, average="macro", zero_division=0)
        assert metrics["macro_f1"] == pytest.approx(macro, abs=1e-6)
        assert metrics["theirs_fscore"] == pytest.approx(macro, abs=1e-6)
        for name, function in (
            ("auroc", roc_auc_score),
            ("average_precision", average_precision_score),
        ):
            assert metrics[name] == pytest.approx(function(one_hot, probs), abs=1e-5)
        assert metrics["order"] == 7 + 8 + 9 + 2 * (10 + 11)


def trainer_of(model: Model, images: DataLoader, output: Path) -> Trainer:
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    places = {"distributed": True, "world_size": ranks, "local_rank": dist.get_rank()}
    return Trainer.from_params(
        Params({"type": "image", "cuda_device": -1, "use_amp": False}),
        model=model,
        serialization_dir=str(output),
        data_loader=images,
        validation_data_loader=images,
        **(places if ranks > 1 else {}),
    )


def validated(folder: Path, output: Path) -> Dict[str, Any]:
    """What a rank finds that validates a model with several labels, whose thresholds are tuned."""
    config = multilabel_experiment(folder, model__thresholds="tune")
    config["model"]["metrics"] = {"ranking": "ranking_loss", "f1": "f1_score"}
    images = DataLoader.from_params(
        Params({"type": "image", "batch_size": 3, "shuffle": True, "num_workers": 0}),
        reader=DatasetReader.from_params(Params(config["validation_dataset_reader"])),
        data_path=config["validation_data_path"],
    )
    vocab = Vocabulary.from_instances(images.iter_instances())
    images.index_with(vocab)
    torch.manual_seed(0)
    model = Model.from_params(Params(config["model"]), vocab=vocab)
    trainer = trainer_of(model, images, output)
    metrics = validate(trainer, 0)
    WritePredictions(str(output), pictures=1).write("validation", model, images)
    return {
        "metrics": metrics,
        "thresholds": model.get_thresholds(),
        "of_labels": model.get_label_metrics(),
        "written": output / "predictions" / "validation.npz",
    }


def test_validation_and_tuned_thresholds_are_the_same(cats_and_dogs: Path, tmp_path: Path) -> None:
    tables = write_tables(cats_and_dogs, tmp_path)
    found: Dict[int, Dict[str, Any]] = {}
    for ranks in (1, 2, 3):
        (tmp_path / str(ranks)).mkdir()
        found[ranks], *others = on_ranks(ranks, validated, tables, tmp_path / str(ranks))
        assert all(repr(other) == repr(found[ranks]) for other in others)
    alone = found[1]
    loss, written = alone["metrics"].pop("loss"), Predictions.load(alone.pop("written"))
    assert {*alone["metrics"]} > {"mAP", "micro_f1", "ranking", "f1"}
    assert len(set(alone["thresholds"].values())) > 2
    for ranks in (2, 3):
        assert found[ranks]["metrics"].pop("loss") == pytest.approx(loss, rel=1e-12)
        predictions = Predictions.load(found[ranks].pop("written"))
        assert as_lists(predictions) == as_lists(written)
        assert predictions.pictures.keys() == written.pictures.keys() != set()
        assert repr(found[ranks]) == repr(alone)


def fails_on_the_second(data: Path) -> str:
    """What a rank says if an image of the second rank cannot be predicted."""

    def forward(batch: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        if dist.get_rank() == 1:
            raise ValueError("no")
        return model(**batch)

    model = classifier()
    with pytest.raises((RuntimeError, ValueError)) as error:
        predict(model, loader(data), forward)
    return str(error.value)


def test_an_error_on_one_rank_ends_all(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", {"Ant": 6, "Bee": 2}, size=32)
    assert on_ranks(2, fails_on_the_second, data) == ["rank 1 failed: ValueError: no", "no"]
