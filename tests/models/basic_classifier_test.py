import copy
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
import torch
import torchvision
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides
from allennlp.data import Instance, Vocabulary
from allennlp.data.fields import LabelField
from allennlp.models import Model
from torch.nn import functional as F

from allencv.data.fields import ImageField
from allencv.data.transforms.batch_transforms import BatchTransform, CutMix, MixUp
from allencv.models import BasicImageClassifier
from allencv.modules.im2im_encoders import ResnetEncoder
from allencv.modules.im2vec_encoders import FlattenEncoder, PoolingEncoder
from allencv.modules.losses import AsymmetricLoss, CrossEntropyLoss
from tests.configs import experiment
from tests.conftest import same_tensors

LABELS = ["ant", "bee", "cat"]


@pytest.fixture
def vocab() -> Vocabulary:
    vocab = Vocabulary()
    for label in LABELS:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def linear_model(vocab: Vocabulary, **arguments: Any) -> BasicImageClassifier:
    """A model of the smallest kind: the mean of each of 3 channels, and a linear layer."""
    return BasicImageClassifier(vocab, PoolingEncoder(3), **arguments)


def images(count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 9), dtype=torch.uint8)


def test_the_tutorials_snippet_gives_torchvisions_resnet(vocab: Vocabulary) -> None:
    im2im_encoder = ResnetEncoder("resnet50", weights=None)
    im2vec_encoder = FlattenEncoder(input_channels=2048, input_height=1, input_width=1)
    model = BasicImageClassifier(vocab, im2vec_encoder, im2im_encoder).eval()

    reference = torchvision.models.resnet50(num_classes=len(LABELS)).eval()
    encoder_state = im2im_encoder.state_dict()
    reference.load_state_dict(
        {**encoder_state}
        | {f"fc.{key}": value for key, value in model._classification_layer.state_dict().items()}
    )
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    normalize = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = reference(normalize(pixels / 255))
        actual = model(image=pixels)
    assert torch.allclose(actual["logits"], expected, atol=1e-4)
    assert torch.allclose(actual["probs"], expected.softmax(-1), atol=1e-5)
    assert "loss" not in actual


def test_forward_by_hand(vocab: Vocabulary) -> None:
    model = linear_model(vocab, pixel_mean=[0.5], pixel_std=[0.25]).eval()
    image, label = images(), torch.tensor([0, 1, 2, 1, 0])
    vector = ((image / 255 - 0.5) / 0.25).mean(dim=(2, 3))
    logits = vector @ model._classification_layer.weight.T + model._classification_layer.bias
    outputs = model(image, label, metadata=[{"image": "a"}] * 5)
    assert torch.allclose(outputs["logits"], logits, atol=1e-5)
    assert outputs["loss"].item() == pytest.approx(
        -logits.log_softmax(-1)[torch.arange(5), label].mean().item(), abs=1e-5
    )
    assert outputs["metadata"] == [{"image": "a"}] * 5
    accuracy = (logits.argmax(-1) == label).float().mean().item()
    assert model.get_metrics(reset=True) == {"accuracy": pytest.approx(accuracy)}


def test_floats_are_taken_as_normalised(vocab: Vocabulary) -> None:
    model = linear_model(vocab).eval()
    image = images()
    assert torch.equal(model(model.normalize(image))["logits"], model(image)["logits"])


def test_an_image_weighs_what_its_class_weighs_with_label_smoothing(vocab: Vocabulary) -> None:
    loss = CrossEntropyLoss(label_smoothing=0.1)
    model = linear_model(vocab, loss=loss, class_weights={"bee": 3.0, "cat": 0.5})
    label = torch.tensor([0, 1, 2, 1, 0])
    outputs = model(images(), label)
    losses = F.cross_entropy(outputs["logits"], label, reduction="none", label_smoothing=0.1)
    weights = torch.tensor([1.0, 3.0, 0.5, 3.0, 1.0])
    assert torch.allclose(outputs["loss"], (weights * losses).sum() / 8.5)
    assert outputs["loss_weight"] == 8.5
    assert "loss_weight" not in linear_model(vocab)(images(), label)


def test_soft_labels_give_the_soft_cross_entropy(vocab: Vocabulary) -> None:
    model = linear_model(vocab)
    shares = torch.rand(5, 3).softmax(-1)
    outputs = model(images(), shares)
    expected = -(shares * outputs["logits"].log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(outputs["loss"], expected)


class Swap(BatchTransform):
    """Gives each image a quarter of the one before it; keeps what it was given."""

    def __call__(self, images, labels, num_classes):
        self.images = images
        self.shares = 0.75 * F.one_hot(labels, num_classes)
        self.shares = self.shares + 0.25 * F.one_hot(labels.roll(1), num_classes)
        return images + 1, self.shares


def test_batch_transforms_see_normalised_images_and_the_metrics_the_dominant_label(
    vocab: Vocabulary,
) -> None:
    swap = Swap()
    loss = CrossEntropyLoss(label_smoothing=0.1)
    model = linear_model(vocab, batch_transforms=[swap], loss=loss)
    image, label = images(), torch.tensor([0, 1, 2, 1, 0])
    outputs = model(image, label)
    assert torch.equal(swap.images, model.normalize(image))
    assert torch.equal(outputs["logits"], linear_logits(model, model.normalize(image) + 1))
    smooth = 0.9 * swap.shares + 0.1 / 3
    expected = -(smooth * outputs["logits"].log_softmax(-1)).sum(-1).mean()
    assert torch.allclose(outputs["loss"], expected)
    accuracy = (outputs["logits"].argmax(-1) == label).float().mean().item()
    assert model.get_metrics() == {"accuracy": pytest.approx(accuracy)}


def linear_logits(model: BasicImageClassifier, normalized: torch.Tensor) -> torch.Tensor:
    return model._classification_layer(normalized.mean(dim=(2, 3)))


def test_batch_transforms_in_turn_with_class_weights(vocab: Vocabulary) -> None:
    model = linear_model(
        vocab, batch_transforms=[MixUp(), CutMix()], class_weights={"bee": 3.0}, num_labels=4
    )
    image, label = images(), torch.tensor([0, 1, 2, 1, 0])
    torch.manual_seed(2)
    outputs = model(image, label)
    torch.manual_seed(2)
    mixed, shares = CutMix()(*MixUp()(model.normalize(image), label, 4), 4)
    logits = linear_logits(model, mixed)
    assert torch.allclose(outputs["logits"], logits)
    weights = shares @ torch.tensor([1.0, 3.0, 1.0, 1.0])
    losses = -(shares * logits.log_softmax(-1)).sum(-1)
    assert torch.allclose(outputs["loss"], (weights * losses).sum() / weights.sum())


def test_batch_transforms_are_for_training_with_labels_only(vocab: Vocabulary) -> None:
    model = linear_model(vocab, batch_transforms=[MixUp(alpha=5.0)])
    plain = linear_model(vocab)
    plain.load_state_dict(model.state_dict())
    image, label = images(), torch.tensor([0, 1, 2, 1, 0])
    state = torch.get_rng_state()
    assert torch.equal(model(image)["logits"], plain(image)["logits"])
    model.eval()
    assert torch.equal(model(image, label)["loss"], plain(image, label)["loss"])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_with_batch_transforms_is_reproducible(cats_and_dogs: Path, tmp_path: Path) -> None:
    choice = {"type": "random_choice", "transforms": ["mixup", "cutmix"]}
    config = experiment(cats_and_dogs, model__batch_transforms=[choice], trainer__num_epochs=1)

    def state(name: str, **overrides: Any) -> Dict[str, torch.Tensor]:
        params = Params(with_overrides(config, overrides) if overrides else copy.deepcopy(config))
        return train_model(params, str(tmp_path / name)).state_dict()

    first = state("first")
    assert same_tensors(first.items(), state("second").items())
    unmixed = state("unmixed", **{"model.batch_transforms": []})
    assert not same_tensors(first.items(), unmixed.items())


def test_dropout_is_for_training_only(vocab: Vocabulary) -> None:
    model = linear_model(vocab, dropout=0.5)
    image = images()
    assert not torch.equal(model(image)["logits"], model(image)["logits"])
    model.eval()
    assert torch.equal(model(image)["logits"], model(image)["logits"])


def test_top_k_accuracy(vocab: Vocabulary) -> None:
    model = linear_model(vocab, top_k=2)
    image, label = images(50), torch.randint(0, 3, (50,))
    logits = model(image, label)["logits"]
    expected = (logits.topk(2).indices == label[:, None]).any(-1).float().mean().item()
    assert model.get_metrics()["top_2_accuracy"] == pytest.approx(expected)


def test_it_is_readable(vocab: Vocabulary) -> None:
    model = linear_model(vocab).eval()
    instances = [
        Instance({"image": ImageField(image), "label": LabelField("bee")}) for image in images(4)
    ]
    for output in model.forward_on_instances(instances):
        order = np.argsort(-output["probs"])
        assert output["label"] == LABELS[order[0]]
        assert [entry["label"] for entry in output["top_k"]] == [LABELS[i] for i in order]
        assert sum(entry["probability"] for entry in output["top_k"]) == pytest.approx(1)


def test_initializer_and_regularizer(vocab: Vocabulary) -> None:
    model = Model.from_params(
        Params(
            {
                "type": "basic_image_classifier",
                "im2vec_encoder": {"type": "pooling", "input_channels": 3},
                "initializer": {
                    "regexes": [[".*weight", {"type": "constant", "val": 2.0}]],
                },
                "regularizer": {"regexes": [["weight", {"type": "l2", "alpha": 0.5}]]},
            }
        ),
        vocab=vocab,
    )
    assert (model._classification_layer.weight == 2).all()
    assert model.get_regularization_penalty().item() == pytest.approx(0.5 * 9 * 4)


def test_num_labels_and_another_namespace(vocab: Vocabulary) -> None:
    vocab.add_token_to_namespace("x", "shape_labels")
    model = linear_model(vocab, num_labels=4, label_namespace="shape_labels")
    output = model.make_output_human_readable(model(images(2)))
    assert output["probs"].shape == (2, 4)
    assert {entry["label"] for entry in output["top_k"][0]} == {"x", "1", "2", "3"}


def test_the_state_holds_parameters_alone(vocab: Vocabulary) -> None:
    model = linear_model(vocab, class_weights={"bee": 2.0})
    assert set(model.state_dict()) == {
        "_classification_layer.weight",
        "_classification_layer.bias",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 1.0}, r"model.dropout is 1.0; expected a number in \[0, 1\)"),
        ({"loss": AsymmetricLoss()}, "model.loss is a AsymmetricLoss, .* with one label"),
        ({"top_k": 4}, "model.top_k is 4; expected 1 to 3, the number of classes"),
        ({"top_k": 0}, "model.top_k is 0; expected 1 to 3"),
        ({"num_labels": 2}, "model.num_labels is 2; expected at least 3"),
        ({"class_weights": {"be": 1.0}}, "class_weights is 'be'; expected one of bee, ant, cat"),
        ({"class_weights": {"bee": -1.0}}, "model.class_weights.bee is -1.0; expected"),
        (
            {"class_weights": dict.fromkeys(("bee", "ant", "cat"), 0.0)},
            "model.class_weights is 0 for ant, bee, cat; expected one above 0",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    vocab: Vocabulary, arguments: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        linear_model(vocab, **arguments)


def test_neighbours_that_do_not_fit_are_named(vocab: Vocabulary) -> None:
    with pytest.raises(ConfigurationError) as error:
        BasicImageClassifier(vocab, PoolingEncoder(2048), ResnetEncoder("resnet18", weights=None))
    for word in ("im2im_encoder (ResnetEncoder)", "512", "im2vec_encoder (PoolingEncoder)", "2048"):
        assert word in str(error.value)
    assert "model.im2vec_encoder.input_channels to 512" in str(error.value)


def test_pixel_statistics_of_other_channels_are_refused(vocab: Vocabulary) -> None:
    model = linear_model(vocab, pixel_mean=[0.5, 0.5], pixel_std=[0.5, 0.5])
    with pytest.raises(ConfigurationError, match="2 and 2 numbers, but the images have 3 channels"):
        model(images())


@pytest.mark.parametrize("labels", [[], ["cat"]])
def test_fewer_than_two_classes_are_refused(labels: "list[str]") -> None:
    vocab = Vocabulary()
    for label in labels:
        vocab.add_token_to_namespace(label, "labels")
    with pytest.raises(ConfigurationError, match=f"two classes or more.* has {len(labels)} "):
        linear_model(vocab)
