"""Evaluation gives the same on any number of ranks: metrics, thresholds and predictions."""

from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, Iterable, List

import numpy as np
import pytest
import torch
import torch.distributed as dist
from allennlp.common import Params
from allennlp.data import DataLoader, DatasetReader, Vocabulary
from allennlp.evaluation.serializers import SimpleSerializer
from allennlp.models import Model
from allennlp.training import Trainer
from allennlp.training.metrics import Metric
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

import allencv.plugin  # noqa: F401
from allencv.predictions.predict import predict
from allencv.predictions.predictions_file import Predictions
from allencv.runtime import ImageError
from allencv.training import ImageEvaluator
from allencv.training.callbacks.write_predictions import WritePredictions
from allencv.training.trainer_access import validate
from tests.conftest import write_cats_and_dogs, write_images
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


SKIPPING = {"shuffle": True, "drop_last": True, "seed": 3, "on_error": "skip"}
TRAINING_LOADER = {**SKIPPING, "class_weighting": "balanced"}


def evaluated(data: Path, output: Path) -> Dict[str, Any]:
    """What each of the ranks finds, with the loader of a config that has only one, for training."""
    name = f"{dist.get_world_size()}.jsonl" if dist.is_initialized() else "alone.jsonl"
    model, images = classifier(class_weights={"Cat": 5.0}), loader(data, **TRAINING_LOADER)
    metrics = ImageEvaluator()(model, images, "", None, output / name)
    return {"metrics": metrics, "predictions": as_lists(predict(model, images))}


def as_lists(predictions: Any) -> List[Any]:
    assert isinstance(predictions, Predictions)
    return [predictions.names, predictions.probs.tolist(), predictions.targets.tolist()]


def spoil(paths: List[Path], numbers: Iterable[int]) -> None:
    """Make some files no images."""
    for number in numbers:
        paths[number].write_text("a text")


CASES = {
    "three batches": ((7, 3, 1), []),
    "fewer images than ranks": ((1, 0, 0), []),
    "classes on one rank only": ((19, 1, 0), []),
    "an unreadable rank of three": ((9, 6, 3), [*range(4, 8), 9]),
    "unreadable batches of each rank of two": ((9, 6, 5), [*range(4, 12)]),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in batches of four, of which some cannot be read."""
    counts, unreadable = request.param
    given = {label: count for label, count in zip(LABELS, counts) if count}
    folder = write_images(tmp_path_factory.mktemp("images"), given, size=32)
    spoil(sorted(folder.glob("*/*.jpg")), unreadable)
    return folder


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


def fails(data: Path, output: Path) -> str:
    """What is said if evaluation fails."""
    with pytest.raises(ImageError) as error:
        evaluated(data, output)
    return str(error.value)


def test_it_is_an_error_if_no_rank_can_read_an_image(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", {"Ant": 9}, size=32)
    spoil(sorted(data.glob("*/*.jpg")), range(9))
    alone = fails(data, tmp_path)
    assert alone.startswith(f"no image of {data} can be read; the first: {data}/Ant/000.jpg: ")
    for ranks in (2, 4):
        assert on_ranks(ranks, fails, data, tmp_path) == [alone] * ranks
    assert not list(tmp_path.glob("*.jsonl"))


class SeveralLines(SimpleSerializer):
    """Writes a line for each image, some of which are empty."""

    def __call__(self, batch: Any, outputs: Any, *arguments: Any, **kwargs: Any) -> str:
        names = [each["image"] for each in outputs["metadata"]]
        return "\n\n".join([f"\u00e4 {name}" for name in names])


def written(data: Path, output: Path) -> bytes:
    """The file of a rank's evaluator that writes several lines for a batch."""
    ranks = dist.get_world_size() if dist.is_initialized() else 0
    file = output / f"{ranks} of a user.txt"
    ImageEvaluator(SeveralLines())(classifier(), loader(data), "", None, file)
    return file.read_bytes() if ranks == 0 or dist.get_rank() == 0 else b""


def test_a_batch_may_have_several_lines(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", {"Ant": 80}, size=32)
    alone = written(data, tmp_path)
    assert alone.count(b"\n") == 160 - 20  # of which each batch has one more than its images
    assert on_ranks(3, written, data, tmp_path)[0] == alone


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
        Params({"type": "image", "batch_size": 3, "num_workers": 0, **SKIPPING}),
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


@pytest.mark.parametrize("unreadable", [[], [3, 4, 5]])
def test_validation_and_tuned_thresholds_are_the_same(
    unreadable: List[int], tmp_path: Path
) -> None:
    write_cats_and_dogs(tmp_path)
    spoil(sorted(tmp_path.glob("val/*/*.jpg")), unreadable)
    tables = write_tables(tmp_path, tmp_path)
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
