import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides
from allennlp.data import Instance, Vocabulary
from allennlp.data.fields import MultiLabelField
from allennlp.models import Model
from allennlp.training.util import evaluate
from sklearn.metrics import average_precision_score, f1_score
from torch.nn import functional as F

import allencv.plugin  # noqa: F401
from allencv.common.archives import load_archive
from allencv.data import ImageDataLoader
from allencv.data.fields import ImageField
from allencv.data.transforms.batch_transforms import CutMix, MixUp
from allencv.models import MultiLabelImageClassifier
from allencv.models.thresholds import best_f1_thresholds
from allencv.modules.im2vec_encoders import PoolingEncoder
from allencv.modules.losses import AsymmetricLoss, CrossEntropyLoss
from tests.conftest import same_tensors
from tests.models.multilabel_data import LABELS as TABLE_LABELS
from tests.models.multilabel_data import multilabel_experiment, write_tables

LABELS = ["ant", "bee", "cat"]
TARGETS = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]])


@pytest.fixture
def vocab() -> Vocabulary:
    vocab = Vocabulary()
    for label in LABELS:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def linear_model(vocab: Vocabulary, **arguments: Any) -> MultiLabelImageClassifier:
    """A model of the smallest kind: the mean of each of 3 channels, and a linear layer."""
    torch.manual_seed(0)
    return MultiLabelImageClassifier(vocab, PoolingEncoder(3), **arguments)


def images(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    contrasts = torch.linspace(0.1, 1, count).view(-1, 1, 1, 1)
    return (torch.randint(0, 256, (count, 3, 8, 9), generator=generator) * contrasts).byte()


def in_two_batches(model: MultiLabelImageClassifier) -> torch.Tensor:
    rows = (slice(0, 2), slice(2, 5))
    return torch.cat([model(images()[each], TARGETS[each])["probs"].detach() for each in rows])


def test_forward_by_hand(vocab: Vocabulary) -> None:
    model = linear_model(vocab, pixel_mean=[0.5], pixel_std=[0.25]).eval()
    vector = ((images() / 255 - 0.5) / 0.25).mean(dim=(2, 3))
    logits = vector @ model._classification_layer.weight.T + model._classification_layer.bias
    outputs = model(images(), TARGETS, metadata=[{"image": "a"}] * 5)
    assert torch.allclose(outputs["logits"], logits, atol=1e-5)
    assert torch.allclose(outputs["probs"], 1 / (1 + (-logits).exp()), atol=1e-5)
    probs = outputs["probs"]
    terms = TARGETS * probs.log() + (1 - TARGETS) * (1 - probs).log()
    assert torch.allclose(outputs["loss"], -terms.mean(), atol=1e-5)
    assert outputs["metadata"] == [{"image": "a"}] * 5


def test_metrics_are_scikit_learns(vocab: Vocabulary) -> None:
    model = linear_model(vocab, thresholds=0.4).eval()
    probs = in_two_batches(model)
    metrics = model.get_metrics(reset=True)
    predicted = (probs > 0.4).long()
    assert metrics["mAP"] == pytest.approx(average_precision_score(TARGETS, probs))
    assert metrics["micro_f1"] == pytest.approx(f1_score(TARGETS, predicted, average="micro"))
    assert metrics["hamming_loss"] == pytest.approx((predicted != TARGETS).float().mean().item())
    assert model.get_label_metrics()["bee"]["support"] == 2
    assert model.get_label_metrics()["bee"]["threshold"] == pytest.approx(0.4)
    assert model.get_metrics() == {}


def test_images_without_any_label_are_legal(vocab: Vocabulary) -> None:
    model = linear_model(vocab)
    instance = Instance({"image": ImageField(images()[0]), "labels": MultiLabelField([])})
    instance.index_fields(vocab)
    target = instance["labels"].as_tensor({})[None]
    assert target.tolist() == [[0, 0, 0]]
    outputs = model(images()[:1], target)
    assert torch.allclose(outputs["loss"], -(1 - outputs["probs"]).log().mean())
    outputs["loss"].backward()
    metrics = model.get_metrics(reset=True)
    predicted = (outputs["probs"] > 0.5).float()
    assert metrics["hamming_loss"] == pytest.approx(predicted.mean().item())
    assert metrics["subset_accuracy"] == float(predicted.sum() == 0)


def test_a_loss_of_another_name_with_class_weights(vocab: Vocabulary) -> None:
    model = linear_model(vocab, loss=AsymmetricLoss(), class_weights={"bee": 3.0})
    outputs = model(images(), TARGETS)
    expected = AsymmetricLoss()(outputs["logits"], TARGETS, torch.tensor([1.0, 3.0, 1.0]))
    assert torch.equal(outputs["loss"], expected)
    with pytest.raises(ConfigurationError, match=r"CrossEntropyLoss, .* with several labels"):
        linear_model(vocab, loss=CrossEntropyLoss())


def test_mixed_images_have_the_labels_of_both(vocab: Vocabulary) -> None:
    for transform in (MixUp(alpha=1.0), CutMix()):
        model = linear_model(vocab, batch_transforms=[transform])
        torch.manual_seed(1)
        outputs = model(images(), TARGETS)
        torch.manual_seed(1)
        mixed, shares = transform(model.normalize(images()), TARGETS, 3)
        share = (shares[1] - TARGETS[0]).max()  # of image 1, which is mixed with image 0
        assert 0 < share < 1
        assert torch.allclose(shares, share * TARGETS + (1 - share) * TARGETS.roll(1, 0), atol=1e-6)
        logits = model.score(mixed)
        expected = F.binary_cross_entropy_with_logits(logits, shares)
        assert torch.allclose(outputs["loss"], expected)
        wrong = ((outputs["probs"] > 0.5) != (shares > 0.5)).float().mean().item()
        assert model.get_metrics(reset=True)["hamming_loss"] == pytest.approx(wrong)


def test_it_is_readable(vocab: Vocabulary) -> None:
    model = linear_model(vocab, thresholds={"ant": 0.99, "bee": 0.0, "cat": 0.0}).eval()
    instances = [
        Instance({"image": ImageField(image), "labels": MultiLabelField(["bee"])})
        for image in images()
    ]
    orders = set()
    for output in model.forward_on_instances(instances):
        probs = dict(zip(LABELS, output["probs"].tolist()))
        best_first = sorted(probs, key=lambda label: -probs[label])
        orders.add(tuple(best_first))
        assert [entry["label"] for entry in output["top_k"]] == best_first
        assert [entry["probability"] for entry in output["top_k"]] == sorted(probs.values())[::-1]
        assert output["labels"] == [label for label in best_first if label != "ant"]
    assert len(orders) > 1


def test_one_label_will_do() -> None:
    vocab = Vocabulary()
    with pytest.raises(ConfigurationError, match="needs a label or more, but the vocabulary has 0"):
        linear_model(vocab)
    vocab.add_token_to_namespace("ant", "labels")
    output = linear_model(vocab).make_output_human_readable(linear_model(vocab)(images()))
    assert output["probs"].shape == (5, 1)


def test_thresholds_of_the_config(vocab: Vocabulary) -> None:
    assert linear_model(vocab).get_thresholds() == {"ant": 0.5, "bee": 0.5, "cat": 0.5}
    some = linear_model(vocab, thresholds={"bee": 0.25})
    assert some.get_thresholds() == {"ant": 0.5, "bee": 0.25, "cat": 0.5}
    assert not [name for name in some.state_dict() if "thresholds" in name]
    some.on_validation_end()
    assert some.get_thresholds()["bee"] == 0.25


def test_thresholds_in_every_form_of_a_config(vocab: Vocabulary) -> None:
    params = {
        "type": "multilabel_image_classifier",
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
    }
    for thresholds, of_bee in ((0.25, 0.25), (0, 0), ({"bee": 0.125}, 0.125), ("tune", 0.5)):
        config = Params(copy.deepcopy({**params, "thresholds": thresholds}))
        model = Model.from_params(config, vocab=vocab)
        assert model.get_thresholds()["bee"] == of_bee
        assert model.tunes_thresholds == (thresholds == "tune")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": 1.0}, r"model.thresholds has 1.0; expected numbers in \[0, 1\)"),
        ({"thresholds": {"bee": -0.5}}, "model.thresholds has -0.5; expected"),
        (
            {"thresholds": {"be": 0.5}},
            "model.thresholds is 'be'; expected one of bee, ant",
        ),
        ({"thresholds": "tuned"}, "model.thresholds is 'tuned'; expected one of tune, a "),
        ({"class_weights": {"bees": 1.0}}, "model.class_weights is 'bees'; expected one of bee"),
        ({"num_labels": 2}, "model.num_labels is 2; expected at least 3"),
    ],
)
def test_a_wrong_argument_is_named(
    vocab: Vocabulary, arguments: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        linear_model(vocab, **arguments)


def test_tuning_is_for_the_images_seen_before_it(vocab: Vocabulary) -> None:
    model = linear_model(vocab, thresholds="tune").eval()
    probs = in_two_batches(model)
    assert model.get_thresholds() == {"ant": 0.5, "bee": 0.5, "cat": 0.5}
    model.on_validation_end()
    best = best_f1_thresholds(probs, TARGETS, torch.full((3,), 0.5))
    assert torch.equal(model._thresholds, best)
    expected = f1_score(TARGETS, (probs > best).long(), average="macro")
    assert model.get_metrics(reset=True)["macro_f1"] == pytest.approx(expected)
    # Evaluation on other data leaves them as they are.
    model(images(), 1 - TARGETS)
    model.get_metrics(reset=True)
    assert torch.equal(model._thresholds, best)
    other = linear_model(vocab, thresholds="tune")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other._thresholds, best)


def test_a_label_that_no_validation_image_has_keeps_its_threshold(
    vocab: Vocabulary, caplog: pytest.LogCaptureFixture
) -> None:
    model = linear_model(vocab, thresholds="tune").eval()
    targets = TARGETS.clone()
    targets[:, 1] = 0
    for _ in range(2):
        model(images(), targets)
        model.on_validation_end()
    assert model.get_thresholds()["bee"] == 0.5
    assert model.get_thresholds()["ant"] != 0.5
    warnings = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert warnings == ["No validation image has 'bee': the threshold stays 0.5"]


@pytest.fixture(scope="module")
def tables(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(cats_and_dogs, tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def run(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    config = multilabel_experiment(
        tables,
        model__thresholds="tune",
        trainer__num_epochs=4,
        trainer__use_amp=False,  # as in evaluation
        trainer__moving_average={"type": "exponential", "decay": 0.8},
    )
    train_model(Params(config), folder)
    return folder


def loader_of(tables: Path, split: str, model: Model, reader: Any) -> ImageDataLoader:
    loader = ImageDataLoader(reader, str(tables / f"{split}.csv"), batch_size=4, num_workers=0)
    loader.index_with(model.vocab)
    return loader


def test_the_archive_holds_the_thresholds_of_the_weights_that_were_kept(
    run: Path, tables: Path
) -> None:
    archive = load_archive(run / "model.tar.gz")
    model, metrics = archive.model, json.loads((run / "metrics.json").read_text())
    assert sorted(model.get_thresholds()) == TABLE_LABELS
    assert model.get_thresholds()["small"] == 0.5
    assert model.get_thresholds()["Cat"] != 0.5
    # The thresholds are those that tuning finds for these weights.
    validation = loader_of(tables, "val", model, archive.validation_dataset_reader)
    model.eval()
    probs, targets = zip(*[(model(**batch)["probs"], batch["labels"]) for batch in validation])
    model.get_metrics(reset=True)
    default = torch.full((4,), 0.5)
    best = best_f1_thresholds(torch.cat(probs).detach(), torch.cat(targets), default)
    assert torch.allclose(model._thresholds, best, atol=1e-6)
    again = evaluate(model, validation)
    for name in ("mAP", "micro_f1", "macro_f1", "hamming_loss", "subset_accuracy"):
        assert metrics[f"best_validation_{name}"] == pytest.approx(again[name], abs=1e-6)


def test_evaluation_tunes_nothing(run: Path, tables: Path) -> None:
    archive = load_archive(run / "model.tar.gz")
    before = archive.model.get_thresholds()
    test = loader_of(tables, "test", archive.model, archive.validation_dataset_reader)
    assert "mAP" in evaluate(archive.model, test)
    assert archive.model.get_thresholds() == before


def test_tuned_thresholds_are_the_same_after_an_interruption(run: Path, tables: Path) -> None:
    folder = run.parent / "interrupted"
    config = json.loads((run / "config.json").read_text())
    begun = with_overrides(config, {"trainer.num_epochs": 2})
    train_model(Params(begun), folder)
    shutil.copy(run / "config.json", folder)
    train_model(Params(config), folder, recover=True)
    for name in ("best.th", "model_state_e4_b0.th"):
        assert same_tensors(torch.load(run / name).items(), torch.load(folder / name).items())
