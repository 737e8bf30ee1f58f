from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from torch.nn import functional as F

from allencv.common.archives import load_archive
from allencv.data.transforms.batch_transforms import MixUp
from allencv.models import BasicImageClassifier, Distillation
from allencv.models.distillation import kl_of_sigmoids, kl_of_softmaxes
from allencv.modules.im2im_encoders import SmallResnetEncoder
from allencv.modules.im2vec_encoders import PoolingEncoder
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.models.multilabel_data import multilabel_experiment, write_tables


@pytest.fixture(scope="module")
def teacher(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A larger network, with other pixel statistics, than its students."""
    folder = tmp_path_factory.mktemp("teacher")
    config = experiment(
        cats_and_dogs,
        model__im2im_encoder__widths=[12, 16],
        model__pixel_mean=[0.5],
        model__pixel_std=[0.25],
        trainer__num_epochs=1,
        data_loader__num_workers=0,
    )
    train_model(Params(config), folder)
    return folder / "model.tar.gz"


def vocabulary(*labels: str) -> Vocabulary:
    vocab = Vocabulary()
    for label in labels:
        vocab.add_token_to_namespace(label, "labels")
    return vocab


def student(vocab: Vocabulary, teacher: Path, **arguments: Any) -> BasicImageClassifier:
    torch.manual_seed(0)
    numbers = {key: arguments.pop(key) for key in ("temperature", "alpha") if key in arguments}
    distillation = Distillation(str(teacher), **numbers)
    return BasicImageClassifier(vocab, PoolingEncoder(3), distillation=distillation, **arguments)


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)


LABEL = torch.tensor([0, 1, 1, 0])


def softened(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return (logits / temperature).softmax(-1)


@pytest.mark.parametrize("labels", [("Cat", "Dog"), ("Dog", "Cat")])
def test_the_loss_by_hand(teacher: Path, labels: "tuple[str, str]") -> None:
    model = student(vocabulary(*labels), teacher, temperature=3.0, alpha=0.25)
    outputs = model(images(), LABEL)
    master = load_archive(teacher).model.eval()
    wanted = master(images())["logits"]  # of bytes, which it normalises by itself
    names = master.label_names()
    wanted = wanted[:, [names.index(label) for label in labels]]
    p, q = softened(wanted, 3), softened(outputs["logits"], 3)
    divergence = (p * (p.log() - q.log())).sum(-1).mean()
    label_loss = F.cross_entropy(outputs["logits"], LABEL)
    assert torch.allclose(outputs["loss"], 0.75 * label_loss + 0.25 * 9 * divergence, atol=1e-5)
    metrics = model.get_metrics(reset=True)
    assert metrics["label_loss"] == pytest.approx(label_loss.item())
    assert metrics["distillation_loss"] == pytest.approx(9 * divergence.item(), abs=1e-5)
    assert set(model.get_metrics()) == {"accuracy"}


def test_the_divergences_are_torchs() -> None:
    wanted, logits = torch.randn(5, 4), torch.randn(5, 4)
    kl = torch.distributions.kl_divergence
    of_classes = torch.distributions.Categorical
    expected = kl(of_classes(logits=wanted), of_classes(logits=logits)).mean()
    assert torch.allclose(kl_of_softmaxes(wanted, logits), expected, atol=1e-6)
    of_labels = torch.distributions.Bernoulli
    expected = kl(of_labels(logits=wanted), of_labels(logits=logits)).mean()
    assert torch.allclose(kl_of_sigmoids(wanted, logits), expected, atol=1e-6)
    certain = torch.tensor([[100.0, -100.0]])
    for divergence in (kl_of_softmaxes, kl_of_sigmoids):
        assert divergence(certain, -certain).isfinite()
        assert divergence(certain, certain) == 0


def test_the_teacher_sees_the_mixed_images(teacher: Path) -> None:
    """With `alpha` 1 the student's loss is what the teacher says of the images it was given."""
    model = student(
        vocabulary("Cat", "Dog"), teacher, alpha=1.0, temperature=1.0, batch_transforms=[MixUp(1.0)]
    )
    torch.manual_seed(3)
    outputs = model(images(), LABEL)
    torch.manual_seed(3)
    mixed, _ = MixUp(1.0)(model.normalize(images()), LABEL, 2)
    master = load_archive(teacher).model.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    shown = (mixed * std.view(-1, 1, 1) + mean.view(-1, 1, 1) - 0.5) / 0.25
    expected = kl_of_softmaxes(master(shown)["logits"], outputs["logits"])
    assert torch.allclose(outputs["loss"], expected, atol=1e-5)


def test_the_teacher_is_not_trained_and_no_part_of_the_student(teacher: Path) -> None:
    model = student(vocabulary("Cat", "Dog"), teacher)
    plain = BasicImageClassifier(vocabulary("Cat", "Dog"), PoolingEncoder(3))
    assert set(model.state_dict()) == set(plain.state_dict())
    assert dict(model.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    master = model._distillation._model
    before = {name: value.clone() for name, value in master.state_dict().items()}
    model.train()
    model(images(), LABEL)["loss"].backward()
    assert not master.training
    assert all(parameter.grad is None for parameter in master.parameters())
    assert same_tensors(before.items(), master.state_dict().items())
    assert master.get_metrics() == {"accuracy": 0.0}


def test_a_student_begins_with_the_weights_that_it_has_without_a_teacher(teacher: Path) -> None:
    model = student(vocabulary("Cat", "Dog"), teacher)
    torch.manual_seed(0)
    plain = BasicImageClassifier(vocabulary("Cat", "Dog"), PoolingEncoder(3))
    assert same_tensors(model.state_dict().items(), plain.state_dict().items())


def test_evaluation_is_by_the_labels_alone(teacher: Path) -> None:
    model = student(vocabulary("Cat", "Dog"), teacher).eval()
    outputs = model(images(), LABEL)
    assert torch.equal(outputs["loss"], F.cross_entropy(outputs["logits"], LABEL))


def test_channels_last(teacher: Path) -> None:
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder, distillation = (
            SmallResnetEncoder(widths=[4], blocks=[1]),
            Distillation(str(teacher)),
        )
        vocab, pooling = vocabulary("Cat", "Dog"), PoolingEncoder(4)
        models.append(BasicImageClassifier(vocab, pooling, encoder, distillation=distillation))
    first, last = models
    last.to(memory_format=torch.channels_last)
    assert torch.allclose(last(images(), LABEL)["loss"], first(images(), LABEL)["loss"], atol=1e-4)
    assert last._distillation._model.is_channels_last()
    assert not first._distillation._model.is_channels_last()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("Cat", "Dogs"), "the teacher alone has Dog; the data alone Dogs; expected the same"),
        (("Cat", "Dog", "Ant"), "the teacher alone has none; the data alone Ant; expected"),
    ],
)
def test_other_labels_are_named(teacher: Path, labels: "List[str]", message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        student(vocabulary(*labels), teacher)
    assert f"model.distillation.teacher '{teacher}'" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "model.distillation.temperature is 0.0; expected a number above 0"),
        ({"alpha": 0.0}, r"model.distillation.alpha is 0.0; expected a number in \(0, 1\]"),
        ({"alpha": 1.5}, "model.distillation.alpha is 1.5"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Distillation("model.tar.gz", **arguments)


@pytest.mark.parametrize(
    ("distillation", "message"),
    [
        ({"teacher": "nowhere.tar.gz"}, "no model archive at 'nowhere.tar.gz'"),
        ({"teacher": "a.tar.gz", "temprature": 2.0}, "temprature"),
    ],
)
def test_mistakes_in_a_config(distillation: Dict[str, Any], message: str) -> None:
    params = {
        "type": "basic_image_classifier",
        "im2vec_encoder": {"type": "pooling", "input_channels": 3},
        "distillation": distillation,
    }
    with pytest.raises(ConfigurationError, match=message):
        Model.from_params(Params(params), vocab=vocabulary("Cat", "Dog"))


def test_a_run_and_its_archive(teacher: Path, cats_and_dogs: Path, tmp_path: Path) -> None:
    moved = teacher.rename(tmp_path / "teacher.tar.gz")
    config = experiment(
        cats_and_dogs,
        model__distillation={"teacher": str(moved)},
        trainer__num_epochs=1,
        data_loader__num_workers=0,
    )
    trained = train_model(Params(config), tmp_path / "run")
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    assert '"training_distillation_loss"' in metrics
    assert '"validation_distillation_loss"' not in metrics
    moved.rename(teacher)
    alone = load_archive(tmp_path / "run" / "model.tar.gz").model.eval()
    assert same_tensors(alone.state_dict().items(), trained.state_dict().items())
    assert alone(images())["probs"].shape == (4, 2)
    with pytest.raises(ConfigurationError, match="no model archive at .*teacher.tar.gz"):
        alone.train()(images(), LABEL)


@pytest.fixture(scope="module")
def of_several_labels(cats_and_dogs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tables(cats_and_dogs, tmp_path_factory.mktemp("tables"))
    train_model(Params(multilabel_experiment(folder, trainer__num_epochs=1)), folder / "run")
    return folder


def test_several_labels(of_several_labels: Path) -> None:
    archive = of_several_labels / "run" / "model.tar.gz"
    distillation = {"teacher": str(archive), "alpha": 0.5, "temperature": 2.0}
    config = multilabel_experiment(of_several_labels, model__distillation=distillation)
    master = load_archive(archive).model.eval()
    vocab = vocabulary(*reversed(master.label_names()))
    model = Model.from_params(Params(config["model"]), vocab=vocab)
    targets = torch.randint(0, 2, (4, 4))
    outputs = model(images(), targets)
    wanted = master(images())["logits"].flip(-1)
    expected = F.binary_cross_entropy_with_logits(outputs["logits"], targets.float()) / 2
    expected += 4 * kl_of_sigmoids(wanted / 2, outputs["logits"] / 2) / 2
    assert torch.allclose(outputs["loss"], expected, atol=1e-5)


def test_a_teacher_of_another_kind_is_named(of_several_labels: Path) -> None:
    archive = of_several_labels / "run" / "model.tar.gz"
    with pytest.raises(ConfigurationError, match=r"a MultiLabelImageClassifier; expected .* Basic"):
        student(vocabulary("Cat", "Dog"), archive)
