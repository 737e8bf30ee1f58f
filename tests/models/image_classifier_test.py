"""What both kinds of classifier share."""

import inspect
from typing import Any, Dict, List, Optional, Type

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.training.metrics import Average, CategoricalAccuracy, FBetaMeasure, Metric
from sklearn.metrics import precision_recall_fscore_support
from torch.nn import functional as F

from allencv.data.transforms.batch_transforms import BatchTransform
from allencv.models import BasicImageClassifier, ImageClassifier, MultiLabelImageClassifier
from allencv.models.views import VIEWS, views_by_name
from allencv.modules.im2im_encoders import FeedForwardEncoder, SmallResnetEncoder
from allencv.modules.im2vec_encoders import FlattenEncoder, PoolingEncoder
from allencv.training.metrics import METRICS, PerClass, TopKAccuracy
from tests.training.metrics.top_k_accuracy_test import NoHostSync

LABELS = ["ant", "bee", "cat"]
KINDS = [BasicImageClassifier, MultiLabelImageClassifier]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def vocab() -> Vocabulary:
    vocab = Vocabulary()
    for label in LABELS:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def convolutional(kind: Type[ImageClassifier], vocab: Vocabulary, **arguments: Any) -> Any:
    torch.manual_seed(0)
    encoder = SmallResnetEncoder(widths=[4, 8], blocks=[1, 1])
    return kind(vocab, PoolingEncoder(8, pool="gem"), encoder, **arguments)


def images(height: int = 16, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, 3, height, width), dtype=torch.uint8, generator=generator)


def batch(kind: Type[ImageClassifier], *size: int) -> Dict[str, torch.Tensor]:
    if kind is BasicImageClassifier:
        return {"image": images(*size), "label": torch.tensor([0, 1, 2, 1, 0, 2])}
    labels = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]])
    return {"image": images(*size), "labels": labels}


class Spy(BatchTransform):
    """Keeps the images that it is given."""

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, num_classes: int) -> Any:
        self.images = images
        return images, labels


@every_kind
def test_the_vector_encoder_comes_first(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    assert list(inspect.signature(kind).parameters)[:3] == [
        "vocab",
        "im2vec_encoder",
        "im2im_encoder",
    ]
    assert convolutional(kind, vocab)(**batch(kind))["probs"].shape == (6, 3)


@every_kind
def test_the_state_holds_the_parts_alone(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    state = convolutional(kind, vocab, class_weights={"bee": 2.0}).state_dict()
    parts = {name.split(".")[0] for name in state}
    assert parts == {"_im2im_encoder", "_im2vec_encoder", "_classification_layer"}


@every_kind
def test_every_parameter_is_in_one_stage(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    model = convolutional(kind, vocab)
    stages = model.get_stages()
    assert stages[-1] == ["_im2vec_encoder", "_classification_layer"]
    assert len(stages) > 2
    for name, _ in model.named_parameters():
        prefixes = [each for stage in stages for each in stage]
        found = [each for each in prefixes if name == each or name.startswith(f"{each}.")]
        assert len(found) == 1, name
    linear = kind(vocab, PoolingEncoder(3))
    assert linear.get_stages() == [["_classification_layer"]]


class Counting(Metric):
    """The mean score of each label, and what it was given."""

    def __init__(self) -> None:
        self.given: List[Any] = []
        self.labels: List[str] = []

    def set_labels(self, names: List[str]) -> None:
        self.labels = names

    def __call__(self, predictions: Any, gold_labels: Any, mask: Optional[Any] = None) -> None:
        self.given.append((predictions, gold_labels))

    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        scores = torch.cat([scores for scores, _ in self.given]).mean(0).tolist()
        return dict(zip(self.labels, scores))


@every_kind
def test_more_metrics(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    model = convolutional(kind, vocab, metrics={"mean": Counting()}, num_labels=4).eval()
    given = batch(kind)
    if "labels" in given:
        given["labels"] = F.pad(given["labels"], (0, 1))
    outputs = model(**given)
    is_single = kind is BasicImageClassifier
    scores = outputs["logits" if is_single else "probs"]
    means = scores.mean(0).tolist()
    metrics = model.get_metrics(reset=True)
    for label, mean in zip([*LABELS, "3"], means):
        assert metrics[f"mean_{label}"] == pytest.approx(mean)
    assert ("accuracy" if is_single else "mAP") in metrics
    (((counted_scores, targets),),) = (model._metrics["mean"].given,)
    assert torch.equal(counted_scores, scores)
    assert torch.equal(targets, given["label" if is_single else "labels"])
    assert not targets.is_floating_point()


def test_metrics_from_a_config(vocab: Vocabulary) -> None:
    params = {
        "type": "basic_image_classifier",
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
        "metrics": {"top_2": {"type": "categorical_accuracy", "top_k": 2}},
    }
    model = Model.from_params(Params(params), vocab=vocab).eval()
    given = batch(BasicImageClassifier)
    logits = model(**given)["logits"]
    expected = CategoricalAccuracy(top_k=2)
    expected(logits, given["label"])
    assert model.get_metrics()["top_2"] == expected.get_metric() > 0


class Giving(Metric):
    """A metric that always gives the same."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, predictions: Any, gold_labels: Any, mask: Optional[Any] = None) -> None:
        pass

    def get_metric(self, reset: bool = False) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, {"it": 1.0}),
        (torch.tensor(0.5), {"it": 0.5}),
        (np.float32(0.5), {"it": 0.5}),
        ([0.1, 0.2, 0.3], {"it_ant": 0.1, "it_bee": 0.2, "it_cat": 0.3}),
        ((1.0, 2.0), {"it_0": 1.0, "it_1": 2.0}),
        (np.arange(3), {"it_ant": 0.0, "it_bee": 1.0, "it_cat": 2.0}),
        (torch.arange(3), {"it_ant": 0.0, "it_bee": 1.0, "it_cat": 2.0}),
        ({"a": 1, "b": torch.tensor(2)}, {"it_a": 1.0, "it_b": 2.0}),
        (
            {"f": [1, 2, 3], "all": {"mean": 2}},
            {"it_f_ant": 1.0, "it_f_bee": 2.0, "it_f_cat": 3.0, "it_all_mean": 2.0},
        ),
        ([], {}),
    ],
    ids=str,
)
@every_kind
def test_several_numbers_are_reported_as_several(
    kind: Type[ImageClassifier], vocab: Vocabulary, value: Any, expected: Dict[str, float]
) -> None:
    model = convolutional(kind, vocab, metrics={"it": Giving(value)})
    model(**batch(kind))
    metrics = model.get_metrics(reset=True)
    found = {name: number for name, number in metrics.items() if name.startswith("it")}
    assert found == expected
    assert all(type(number) is float for number in found.values())


@pytest.mark.parametrize("value", ["good", None, torch.eye(3), [[1.0]], {"a": object()}])
def test_what_is_no_number_is_refused_by_name(vocab: Vocabulary, value: Any) -> None:
    model = convolutional(BasicImageClassifier, vocab, metrics={"odd": Giving(value)})
    model(**batch(BasicImageClassifier))
    with pytest.raises(ConfigurationError) as error:
        model.get_metrics()
    assert str(error.value).startswith("model.metrics.odd (Giving) gives ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("average", [None, "macro"])
def test_allennlps_fbeta_is_reported(vocab: Vocabulary, average: Optional[str]) -> None:
    metric = FBetaMeasure(average=average)
    model = convolutional(BasicImageClassifier, vocab, metrics={"f": metric})
    assert model.get_metrics() == {"accuracy": 0.0}  # it refuses to be computed before
    given = batch(BasicImageClassifier)
    predicted = model(**given)["logits"].argmax(-1)
    metrics = model.get_metrics(reset=True)
    expected = precision_recall_fscore_support(
        given["label"], predicted, labels=range(3), average=average, zero_division=0
    )
    for name, numbers in zip(("precision", "recall", "fscore"), expected):
        if average is None:
            for label, number in zip(LABELS, numbers):
                assert metrics[f"f_{name}_{label}"] == pytest.approx(number)
        else:
            assert metrics[f"f_{name}"] == pytest.approx(numbers)
    assert model.get_metrics(reset=True) == {"accuracy": 0.0}


@pytest.mark.parametrize(
    ("kind", "metric", "message"),
    [
        (MultiLabelImageClassifier, FBetaMeasure(), "(FBetaMeasure) cannot be computed"),
        (BasicImageClassifier, Average(), "(Average) cannot be computed for this model: TypeError"),
        (MultiLabelImageClassifier, METRICS["CohenKappa"](), "got multilabel labels; expected mul"),
        (BasicImageClassifier, TopKAccuracy(9), "top_k is 9; expected at most the number of cla"),
    ],
)
def test_a_metric_that_does_not_fit_is_named(
    kind: Type[ImageClassifier], metric: Metric, message: str, vocab: Vocabulary
) -> None:
    model = convolutional(kind, vocab, metrics={"mine": metric})
    with pytest.raises(ConfigurationError) as error:
        model(**batch(kind))
    assert str(error.value).startswith("model.metrics.mine (")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_too_little_memory_is_no_mistake_of_a_metric(vocab: Vocabulary) -> None:
    class Greedy(Giving):
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            torch.empty(2**55)

    model = convolutional(BasicImageClassifier, vocab, metrics={"greedy": Greedy(1)})
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        model(**batch(BasicImageClassifier))


@every_kind
def test_metrics_have_their_names_before_the_first_image(
    kind: Type[ImageClassifier], vocab: Vocabulary
) -> None:
    wanted = {
        "f1": METRICS["F1Score"](average="macro"),
        "recall": METRICS["Recall"](average=None),
        "each": PerClass(),
        "it": Giving(2.0),
    }
    model = convolutional(kind, vocab, metrics=wanted)
    before = model.get_metrics(reset=True)
    assert np.isnan(before["f1"])
    assert before["it"] == 2.0
    model(**batch(kind))
    after = model.get_metrics(reset=True)
    assert {name for name in after if name.split("_")[0] in wanted} <= before.keys()
    assert np.isnan(model.get_metrics()["recall_cat"])
    model(**{name: each[:0] for name, each in batch(kind).items()})
    assert np.isnan(model.get_metrics()["recall_cat"])


def test_two_metrics_of_one_name_are_refused(vocab: Vocabulary) -> None:
    metrics = {"f": Giving({"a_b": 1.0}), "f_a": Giving({"b": 2.0})}
    model = convolutional(BasicImageClassifier, vocab, metrics=metrics)
    with pytest.raises(ConfigurationError, match=r"model.metrics.f_a reports 'f_a_b', as another"):
        model.get_metrics()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (BasicImageClassifier, "accuracy"),
        (BasicImageClassifier, "loss"),
        (MultiLabelImageClassifier, "mAP"),
        (MultiLabelImageClassifier, "batch_loss"),
    ],
)
def test_a_metric_of_a_taken_name_is_refused(
    kind: Type[ImageClassifier], name: str, vocab: Vocabulary
) -> None:
    with pytest.raises(ConfigurationError, match=f"model.metrics.{name} has the name"):
        convolutional(kind, vocab, metrics={name: CategoricalAccuracy()})


@every_kind
def test_views_are_averaged_in_evaluation(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    names = ["horizontal_flip", "rotate_90"]
    model = convolutional(kind, vocab, test_time_augmentation=names).eval()
    plain = convolutional(kind, vocab).eval()
    given = batch(kind, 16, 24)
    image = given["image"]
    views = [image, image.flip(-1), torch.rot90(image, 1, (2, 3))]
    expected = torch.stack([plain(view)["probs"] for view in views]).mean(0)
    outputs = model(**given)
    assert torch.allclose(outputs["probs"], expected, atol=1e-6)
    assert not torch.allclose(outputs["probs"], plain(image)["probs"], atol=1e-4)
    if kind is BasicImageClassifier:
        loss = F.nll_loss(expected.log(), given["label"])
        assert torch.allclose(outputs["logits"].softmax(-1), expected, atol=1e-6)
    else:
        loss = F.binary_cross_entropy(expected, given["labels"].float())
        assert torch.allclose(outputs["logits"].sigmoid(), expected, atol=1e-6)
    assert torch.allclose(outputs["loss"], loss, atol=1e-6)


@every_kind
def test_views_are_not_for_training(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    model = convolutional(kind, vocab, test_time_augmentation=["vertical_flip"])
    assert torch.equal(
        model(**batch(kind))["logits"], convolutional(kind, vocab)(**batch(kind))["logits"]
    )


def test_every_view_shows_all_pixels_in_another_order() -> None:
    image = torch.arange(24.0).view(1, 1, 4, 6)
    turned = {name: view for name, view in VIEWS.items() if not name.startswith("shift")}
    seen = [view(image) for view in turned.values()]
    assert all(each.flatten().sort().values.equal(image.flatten()) for each in seen)
    assert len({tuple(each.flatten().tolist()) for each in [image, *seen]}) == len(turned) + 1
    assert torch.equal(VIEWS["rotate_270"](VIEWS["rotate_90"](image)), image)


def test_shifts_repeat_the_edge() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    assert VIEWS["shift_up_left"](image).tolist() == [[[[4, 5, 5], [4, 5, 5]]]]
    assert VIEWS["shift_down_right"](image).tolist() == [[[[0, 0, 1], [0, 0, 1]]]]


def test_views_one_after_the_other() -> None:
    image = torch.arange(6.0).view(1, 1, 2, 3)
    view, other = views_by_name(["horizontal_flip+shift_up_left", "rotate_90 + vertical_flip"])
    assert view(image).tolist() == [[[[4, 3, 3], [4, 3, 3]]]]
    assert torch.equal(other(image), torch.rot90(image, 1, (2, 3)).flip(-2))


def test_an_unknown_view_is_named(vocab: Vocabulary) -> None:
    names = ["vertical_flip", "horizontal"]
    with pytest.raises(
        ConfigurationError,
        match=r"model.test_time_augmentation.1 is 'horizontal'; expected one of horizontal_flip",
    ):
        convolutional(BasicImageClassifier, vocab, test_time_augmentation=names)
    with pytest.raises(ConfigurationError, match=r"augmentation.0 is 'flip'; expected one of"):
        views_by_name(["rotate_90+flip"])


@every_kind
def test_training_images_are_resized(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    spy = Spy()
    model = convolutional(kind, vocab, batch_transforms=[spy])
    state = set(model.state_dict())
    normalized = model.normalize(images(16, 24))
    for size, sizes in ((8, (8, 12)), (20, (20, 30)), (16, (16, 24)), (None, (16, 24))):
        model.set_training_size(size)
        model(**batch(kind, 16, 24))
        expected = F.interpolate(normalized, sizes, mode="bilinear", antialias=True)
        assert torch.equal(spy.images, normalized if size in (16, None) else expected)
    model.set_training_size(8)
    assert set(model.state_dict()) == state
    flat = kind(vocab, FlattenEncoder(input_channels=3, input_height=16, input_width=16))
    flat.set_training_size(8)
    with pytest.raises(ConfigurationError, match="got 8 by 8"):
        flat(**batch(kind))
    flat.eval()(**batch(kind))


@pytest.mark.parametrize("has_encoder", [True, False])
@every_kind
def test_images_of_other_channels_are_refused(
    kind: Type[ImageClassifier], vocab: Vocabulary, has_encoder: bool
) -> None:
    numbers = {"pixel_mean": [0.5], "pixel_std": [0.25]}  # which go with any number of channels
    model = convolutional(kind, vocab, **numbers)
    if not has_encoder:
        flatten = FlattenEncoder(input_channels=3, input_height=16, input_width=16)
        model = kind(vocab, flatten, **numbers)
    given = batch(kind)
    given["image"] = given["image"][:, :1]
    with pytest.raises(ConfigurationError) as error:
        model(**given)
    part = "im2vec_encoder (FlattenEncoder)"
    if has_encoder:
        part = "im2im_encoder (SmallResnetEncoder)"
    assert f"the images have 1 channel, but model.{part} takes 3: set the" in str(error.value)
    assert "color_mode" in str(error.value)
    assert "their shape is (6, 1, 16, 16), expected (batch, 3, height, width)" in str(error.value)


@every_kind
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda image: image.permute(0, 2, 3, 1),
            r"have 16 channels, .*\.permute\(0, 3, 1, 2\)",
        ),
        (lambda image: image.permute(0, 2, 3, 1), r"their shape is \(6, 16, 16, 3\), expected "),
        (lambda image: image.permute(0, 2, 3, 1) / 255, r"put the channels first"),
        (lambda image: image[0], r"have the shape \(3, 16, 16\); .* needs image\[None\]"),
        (lambda image: image.flatten(1), r"have the shape \(6, 768\); expected \(batch, 3, "),
        (lambda image: image.long(), r"are torch.int64; expected torch.uint8 \(0 to 255\), or "),
        (lambda image: image > 9, r"are torch.bool; expected torch.uint8"),
    ],
)
def test_what_is_no_batch_of_images_is_refused(
    kind: Type[ImageClassifier], vocab: Vocabulary, wrong: Any, message: str
) -> None:
    given = batch(kind)
    given["image"] = wrong(given["image"])
    with pytest.raises(ConfigurationError, match=message):
        convolutional(kind, vocab)(**given)


@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.half, 1e-2), (torch.double, 1e-5)])
def test_a_model_in_another_precision(
    kind: Type[ImageClassifier], vocab: Vocabulary, dtype: torch.dtype, tolerance: float
) -> None:
    """Bytes and floats of any precision are given to the network in its own."""
    label = vocab.get_token_from_index(0, "labels")
    model = convolutional(kind, vocab, class_weights={label: 2.0}).eval()
    given = batch(kind)
    normalized = model.normalize(given["image"])
    with torch.no_grad():
        expected = model(**given)
        model.to(dtype)
        for image in (given["image"], normalized, normalized.double()):
            found = model(**{**given, "image": image})
            for key in ("probs", "loss"):
                assert found[key].dtype == torch.float32
                torch.testing.assert_close(found[key], expected[key], rtol=0, atol=tolerance)


def test_normalization_keeps_its_precision(vocab: Vocabulary) -> None:
    model = convolutional(BasicImageClassifier, vocab)
    images = batch(BasicImageClassifier)["image"]
    expected = model.normalize(images)
    assert model.half().normalize(images).equal(expected)
    assert model.float().normalize(images).equal(expected)


def test_a_training_size_of_nothing_is_refused(vocab: Vocabulary) -> None:
    with pytest.raises(ConfigurationError, match="training size is 0; expected at least 1"):
        convolutional(BasicImageClassifier, vocab).set_training_size(0)


@every_kind
def test_channels_last(kind: Type[ImageClassifier], vocab: Vocabulary) -> None:
    spy, other = Spy(), Spy()
    first = convolutional(kind, vocab, batch_transforms=[spy])
    last = convolutional(kind, vocab, batch_transforms=[other])
    last.to(memory_format=torch.channels_last)
    assert last.is_channels_last()
    assert not first.is_channels_last()
    given = batch(kind)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given["image"] = given["image"].contiguous(memory_format=memory_format)
        expected, actual = first(**given), last(**given)
        assert torch.equal(spy.images, other.images)
        assert spy.images.is_contiguous()
        assert other.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(expected["logits"], actual["logits"], atol=1e-5)
    last.to(memory_format=torch.contiguous_format)
    assert not last.is_channels_last()


def test_one_channel_and_kernels_of_one_pixel_have_no_order_to_tell(vocab: Vocabulary) -> None:
    encoder = FeedForwardEncoder(
        input_channels=1, num_layers=1, hidden_channels=4, activations=torch.nn.ReLU(), strides=1
    )
    model = BasicImageClassifier(vocab, PoolingEncoder(4), encoder, pixel_mean=[0], pixel_std=[1])
    model.to(memory_format=torch.channels_last)
    assert not model.is_channels_last()
    assert model(images()[:, :1])["logits"].shape == (6, 3)


@every_kind
def test_a_training_step_does_not_wait_for_the_device(
    kind: Type[ImageClassifier], vocab: Vocabulary
) -> None:
    model = convolutional(kind, vocab, class_weights={"bee": 2.0})
    given = batch(kind)
    with NoHostSync():
        model(**given)["loss"].backward()
    model.eval()
    with NoHostSync(), torch.no_grad():
        model(**given)


@pytest.mark.parametrize(
    ("kind", "field", "other"),
    [
        (BasicImageClassifier, "labels", "multilabel_image_classifier"),
        (MultiLabelImageClassifier, "label", "basic_image_classifier"),
    ],
)
def test_data_for_the_other_kind_is_answered_with_its_name(
    kind: Type[ImageClassifier], field: str, other: str, vocab: Vocabulary
) -> None:
    model = convolutional(kind, vocab)
    with pytest.raises(ConfigurationError, match=f"come with the field '{field}'; .*'{other}'"):
        model(image=images(), **{field: torch.zeros(6)})


def metrics_for(kind: Type[ImageClassifier]) -> Dict[str, Metric]:
    configs: Dict[str, Any] = {
        "by_class": "per_class",
        "f1": {"type": "f1_score", "average": "macro"},
        "f1_of": {"type": "f1_score", "average": None},
        "auroc": "auroc",
        "calibration": "calibration_error",
    }
    if kind is BasicImageClassifier:
        configs |= {"balanced": "balanced_accuracy", "top": {"type": "top_k_accuracy", "top_k": 2}}
        configs["confusions"] = "confusion_matrix"
    else:
        del configs["calibration"]
    return {
        key: Metric.from_params(Params({"type": v} if isinstance(v, str) else v))
        for key, v in configs.items()
    }


@every_kind
def test_metrics_are_named_before_there_are_any(
    kind: Type[ImageClassifier], vocab: Vocabulary
) -> None:
    model = convolutional(kind, vocab, metrics=metrics_for(kind)).eval()
    names = model.metric_names()
    model(**batch(kind))
    reported = model.get_metrics(reset=True)
    assert {name for name in names if not name.endswith("*")} == {
        name for name in reported if not name.startswith("confusions_")
    }
    assert ("confusions_*" in names) == (kind is BasicImageClassifier)
    # Asking counts nothing.
    assert (
        model.get_metrics() == convolutional(kind, vocab, metrics=metrics_for(kind)).get_metrics()
    )


@every_kind
def test_a_metric_that_does_not_fit_is_found_before_training(
    kind: Type[ImageClassifier], vocab: Vocabulary
) -> None:
    metric = (
        {"type": "top_k_accuracy", "top_k": 9}
        if kind is BasicImageClassifier
        else {"type": "balanced_accuracy"}
    )
    model = convolutional(kind, vocab, metrics={"wrong": Metric.from_params(Params(metric))})
    with pytest.raises(ConfigurationError):
        model.metric_names()
