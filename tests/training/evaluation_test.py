import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import torch
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.evaluation import Evaluator
from allennlp.models import Model
from allennlp.training import Trainer
from allennlp.training import util as allennlp_util
from torch.nn import functional as F

import allencv.plugin  # noqa: F401
from allencv.models import BasicImageClassifier
from allencv.modules.im2im_encoders import SmallResnetEncoder
from allencv.modules.im2vec_encoders import PoolingEncoder
from allencv.training import ImageEvaluator, evaluate
from tests.conftest import write_images
from tests.models.multilabel_data import multilabel_experiment, write_tables

LABELS = ["Ant", "Bee", "Cat"]
COUNTS = {"Ant": 7, "Bee": 3, "Cat": 2}  # 12 images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), COUNTS, size=8)


def loader(folder: Path, batch_size: int) -> DataLoader:
    data = DataLoader.from_params(
        Params({"type": "image", "batch_size": batch_size, "num_workers": 0}),
        reader=DatasetReader.from_params(
            Params({"type": "image_folder", "transforms": [{"type": "eval", "size": 8}]})
        ),
        data_path=str(folder),
    )
    data.index_with(vocabulary())
    return data


def vocabulary() -> Vocabulary:
    vocab = Vocabulary()
    for label in LABELS:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def classifier(class_weights: Optional[Dict[str, float]] = None) -> Model:
    torch.manual_seed(0)
    model = BasicImageClassifier(vocabulary(), PoolingEncoder(3), class_weights=class_weights)
    torch.nn.init.normal_(model._classification_layer.weight)
    return model.eval()


def exact_loss(model: Model, folder: Path, weights: Optional[torch.Tensor] = None) -> float:
    """torch's, of all images in one batch."""
    (batch,) = loader(folder, 12)
    with torch.no_grad():
        return float(F.cross_entropy(model(batch["image"])["logits"], batch["label"], weights))


WEIGHTS = [None, {"Ant": 0.5, "Bee": 2.0, "Cat": 8.0}]


@pytest.mark.parametrize("class_weights", WEIGHTS, ids=["plain", "weighted"])
def test_the_loss_is_the_same_for_every_batch_size(
    folder: Path, tmp_path: Path, class_weights: Optional[Dict[str, float]]
) -> None:
    model = classifier(class_weights)
    tensor = torch.tensor(list(class_weights.values())) if class_weights else None
    exact = exact_loss(model, folder, tensor)
    for size in (12, 5, 10, 1):
        assert evaluate(model, loader(folder, size))["loss"] == pytest.approx(exact, abs=1e-5)
        trainer = Trainer.from_params(
            Params({"type": "image", "cuda_device": -1, "use_amp": False}),
            model=model,
            serialization_dir=str(tmp_path),
            data_loader=loader(folder, 12),
            validation_data_loader=loader(folder, size),
        )
        with torch.no_grad():
            total, _, count = trainer._validation_loss(0)
        assert total / count == pytest.approx(exact, abs=1e-5)


def test_allennlps_loss_still_depends_on_the_batch_size(folder: Path) -> None:
    """Why there is a function of ours. Delete it when this fails."""
    model = classifier()
    losses = [allennlp_util.evaluate(model, loader(folder, size))["loss"] for size in (12, 10)]
    assert abs(losses[0] - losses[1]) > 0.01


def test_a_key_of_the_outputs_says_what_a_batch_counts(folder: Path) -> None:
    model = classifier()
    data, losses = loader(folder, 10), []
    evaluate(model, data, on_batch=lambda batch, outputs: losses.append(float(outputs["loss"])))
    forward = model.forward

    def weighed(**batch: Any) -> Dict[str, Any]:
        return forward(**batch) | {"weight": torch.tensor(3.0 if len(batch["image"]) == 2 else 1.0)}

    model.forward = weighed
    metrics = evaluate(model, data, batch_weight_key="weight")
    assert metrics["loss"] == pytest.approx((losses[0] + 3 * losses[1]) / 4)


def test_the_command_evaluates_by_images(folder: Path, tmp_path: Path) -> None:
    evaluator = Evaluator.from_params(Params({}))
    assert isinstance(evaluator, ImageEvaluator)
    model = classifier()
    files = tmp_path / "metrics.json", tmp_path / "predictions.jsonl"
    metrics = evaluator(model, loader(folder, 10), "", *files)
    assert metrics == json.loads(files[0].read_text())
    assert metrics["loss"] == pytest.approx(exact_loss(model, folder), abs=1e-5)
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [len(line["label"]) for line in lines] == [10, 2]
    assert set(lines[0]["label"]) <= set(LABELS)
    assert set(tmp_path.iterdir()) == set(files)


def test_the_network_computes_in_the_memory_order_that_the_trainer_chooses(folder: Path) -> None:
    model = BasicImageClassifier(vocabulary(), PoolingEncoder(64), SmallResnetEncoder())
    ImageEvaluator()(model, loader(folder, 10), "")
    assert model.is_channels_last()


def test_images_with_several_labels_count_alike(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = multilabel_experiment(write_tables(cats_and_dogs, tmp_path))
    reader = DatasetReader.from_params(Params(config["validation_dataset_reader"]))
    losses = []
    for size in (100, 3):
        data = DataLoader.from_params(
            Params({"type": "image", "batch_size": size}),
            reader=reader,
            data_path=config["validation_data_path"],
        )
        vocab = Vocabulary.from_instances(data.iter_instances())
        data.index_with(vocab)
        torch.manual_seed(0)
        model = Model.from_params(Params(deepcopy(config["model"])), vocab=vocab)
        losses.append(evaluate(model, data)["loss"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_data_without_labels_has_no_loss(folder: Path) -> None:
    model = classifier()
    data = loader(folder, 4)
    forward = model.forward
    model.forward = lambda image, **others: forward(image)
    assert "loss" not in evaluate(model, data)
