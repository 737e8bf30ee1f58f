from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader
from allennlp.training import NoOpTrainer, TrainerCallback
from allennlp.training.checkpointer import Checkpointer
from torch.optim.swa_utils import AveragedModel

import allencv.plugin  # noqa: F401
from allencv.training import evaluate
from allencv.training.callbacks.checkpoint_averaging import (
    CheckpointAveraging,
    _estimate_statistics,
    average_states,
)
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training import surprise  # noqa: F401
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted, weights

WITHOUT_NORMS = {
    **{"type": "feedforward", "input_channels": 3, "num_layers": 2, "hidden_channels": 16},
    **{"activations": "relu", "strides": 4, "batch_norm": False},
}


def averaging(data: Path, count: int = 3, **overrides: Any) -> Dict[str, Any]:
    config = {
        "data_loader__batch_size": 8,
        "trainer__num_epochs": 4,
        "trainer__checkpointer": {"keep_most_recent_by_count": 9},
        "trainer__callbacks": [{"type": "checkpoint_averaging", "count": count}, "power_cut"],
    }
    return experiment(data, **{**config, **overrides})


def test_the_average_is_torchs() -> None:
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)) for _ in "abc"]
    for steps, model in enumerate(models):
        torch.nn.init.normal_(model[1].weight)
        for _ in range(steps):
            model(torch.randn(5, 3))
    reference = AveragedModel(models[0], use_buffers=True)
    for model in models:
        reference.update_parameters(model)
    averaged = average_states([model.state_dict() for model in models])
    assert averaged.pop("1.num_batches_tracked") == 2  # a counter
    expected = reference.module.state_dict()
    for name, value in averaged.items():
        torch.testing.assert_close(value, expected[name])


def test_the_last_epochs_are_averaged(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = averaging(cats_and_dogs, model__im2im_encoder=WITHOUT_NORMS)
    model = train(config, tmp_path)
    epochs = [weights(tmp_path, epoch) for epoch in (2, 3, 4)]
    expected = average_states(epochs)
    best = torch.load(tmp_path / "best.th")
    assert same_tensors(best, expected)
    assert same_tensors(model.state_dict(), expected)
    assert not any(same_tensors(best, epoch) for epoch in epochs)  # a checkpoint is no hard link
    archived = type(model).from_archive(str(tmp_path / "model.tar.gz"))
    assert same_tensors(archived.state_dict(), expected)


def test_metrics_tell_what_has_happened(cats_and_dogs: Path, tmp_path: Path) -> None:
    loading = {"type": "image", "batch_size": 5}
    config = averaging(
        cats_and_dogs,
        trainer__validation_metric="-loss",
        trainer__use_amp=False,
        validation_data_loader=loading,
    )
    model = train(config, tmp_path)
    metrics = metrics_of(tmp_path)
    assert metrics["averaged_epochs"] == [1, 2, 3]
    is_better = metrics["averaged_validation_loss"] <= metrics["best_validation_loss"]
    assert metrics["averaged_weights_used"] == is_better
    loader = DataLoader.from_params(
        Params(loading),
        reader=DatasetReader.from_params(Params(config["validation_dataset_reader"])),
        data_path=str(cats_and_dogs / "val"),
    )
    loader.index_with(model.vocab)
    key = "averaged_validation" if is_better else "best_validation"
    for name, value in evaluate(model, loader).items():
        assert metrics[f"{key}_{name}"] == pytest.approx(value)


def test_an_average_that_is_worse_is_not_used(cats_and_dogs: Path, tmp_path: Path) -> None:
    # The loss falls from epoch to epoch, so that the first is the best by this metric.
    config = averaging(
        cats_and_dogs,
        model__metrics={"surprise": "surprise"},
        trainer__validation_metric="+surprise",
    )
    model = train(config, tmp_path)
    metrics = metrics_of(tmp_path)
    assert metrics["averaged_validation_loss"] < metrics["best_validation_loss"]
    assert metrics["averaged_weights_used"] is False
    best = weights(tmp_path, metrics["best_epoch"] + 1)
    assert same_tensors(model.state_dict(), best)
    assert same_tensors(torch.load(tmp_path / "best.th"), best)


def test_statistics_are_those_of_the_training_images(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = averaging(
        cats_and_dogs,
        dataset_reader__transforms=[{"type": "eval", "size": 32}],
        trainer__use_amp=False,
    )
    del config["validation_data_path"]
    model = train(config, tmp_path)
    averaged = average_states([weights(tmp_path, epoch) for epoch in (2, 3, 4)])
    for name, parameter in model.named_parameters():
        assert parameter.equal(averaged[name])
    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    images = [
        reader.text_to_instance(str(path))["image"].as_tensor({})
        for path in cats_and_dogs.glob("train/*/*")
    ]
    with torch.no_grad():
        features = model._im2im_encoder.conv1(model.normalize(torch.stack(images)))
    norm = model._im2im_encoder.bn1
    torch.testing.assert_close(norm.running_mean, features.mean((0, 2, 3)))
    # Each batch's variance, without the means' from batch to batch, so only about the same.
    torch.testing.assert_close(norm.running_var, features.var((0, 2, 3)), rtol=0.2, atol=0)
    assert norm.momentum == 0.1


class TwoNorms(torch.nn.Module):
    """A frozen stage in front of one that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.trained = torch.nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
        self.frozen.running_mean.copy_(torch.tensor([5.0, -2.0, 0.0]))
        self.frozen.running_var.copy_(torch.tensor([9.0, 4.0, 0.25]))

    def train(self, mode: bool = True) -> "TwoNorms":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.trained(self.frozen(image))

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        return {}


def estimate(model: TwoNorms, batches: List[torch.Tensor]) -> None:
    trainer = SimpleNamespace(
        model=model,
        cuda_device=torch.device("cpu"),
        data_loader=[{"image": batch} for batch in batches],
        batch_outputs=lambda batch, for_training: model(**batch),
    )
    _estimate_statistics(trainer)


def test_statistics_behind_a_frozen_stage_are_those_of_what_it_gives() -> None:
    torch.manual_seed(0)
    model, images = TwoNorms(), 3 * torch.randn(10, 3) + 4
    frozen = {name: value.clone() for name, value in model.frozen.state_dict().items()}
    given = (images - frozen["running_mean"]) / (frozen["running_var"] + 1e-5).sqrt()
    batches = given.split(4)  # 4, 4 and 2 images
    expected_var = sum(len(batch) * batch.var(0) for batch in batches) / 10
    estimate(model, list(images.split(4)))
    torch.testing.assert_close(model.trained.running_mean, given.mean(0))
    torch.testing.assert_close(model.trained.running_var, expected_var)
    assert same_tensors(model.frozen.state_dict(), frozen)
    assert model.trained.momentum == 0.1


def test_where_all_is_frozen_no_image_is_looked_at() -> None:
    model = TwoNorms()
    model.trained = torch.nn.BatchNorm1d(3, track_running_stats=False)
    estimate(model, [torch.full((1,), float("nan"))])  # which no layer takes


@pytest.mark.parametrize("validates", [True, False])
def test_the_average_of_a_partly_frozen_network_is_as_good_as_its_epochs(
    cats_and_dogs: Path, tmp_path: Path, validates: bool
) -> None:
    """Frozen statistics that were not those of random weights were lost in the pass."""
    config = averaging(
        cats_and_dogs, trainer__optimizer={"type": "sgd", "lr": 1e-4}, trainer__use_amp=False
    )
    if not validates:
        del config["validation_data_path"]
    config["trainer"]["callbacks"] = [
        *[{"type": "shift_statistics"}, {"type": "freeze", "stages": 1}],
        *config["trainer"]["callbacks"],
    ]
    model = train(config, tmp_path)
    last = weights(tmp_path, 4)
    assert last["_im2im_encoder.bn1.running_mean"].min() > 4  # the frozen ones
    for name, value in model.state_dict().items():
        if name.endswith("bn1.running_mean"):
            torch.testing.assert_close(value, last[name], rtol=0.2, atol=0.2)


@TrainerCallback.register("shift_statistics")
class ShiftStatistics(TrainerCallback):
    """Gives the first normalisation statistics as of images that training has not seen."""

    def on_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        trainer.model._im2im_encoder.bn1.running_mean.fill_(5.0)
        trainer.model._im2im_encoder.bn1.running_var.fill_(9.0)


def test_statistics_of_a_frozen_backbone_stay(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = averaging(cats_and_dogs)
    config["trainer"]["callbacks"].append("freeze")
    train(config, tmp_path)
    best, first = torch.load(tmp_path / "best.th"), weights(tmp_path, 1)
    for name, value in first.items():
        if name.startswith("_im2im_encoder"):
            torch.testing.assert_close(best[name], value)


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_average(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = averaging(cats_and_dogs)
    straight = tmp_path / "straight"
    train(config, straight)
    expected = metrics_of(straight)
    assert expected["averaged_weights_used"] is True

    def assert_same_average(folder: Path) -> None:
        metrics = metrics_of(folder)
        for name in ("averaged_validation_loss", "averaged_validation_accuracy", "averaged_epochs"):
            assert metrics[name] == expected[name]
        assert same_tensors(torch.load(folder / "best.th"), torch.load(straight / "best.th"))

    for at in ((1, 2), (3, 3)):
        interrupted = tmp_path / f"interrupted at {at}"
        train_interrupted(config, interrupted, at, monkeypatch)
        assert_same_average(interrupted)
    train(config, interrupted, recover=True)  # once more, although it is finished
    assert_same_average(interrupted)


def test_a_run_that_stops_early_averages_what_there_is(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = averaging(
        cats_and_dogs,
        count=5,
        model__metrics={"surprise": "surprise"},
        trainer__patience=1,
        trainer__validation_metric="+surprise",
    )
    train(config, tmp_path)
    assert metrics_of(tmp_path)["averaged_epochs"] == [0, 1]


def test_allennlps_trainer_averages_too(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = averaging(
        cats_and_dogs, trainer__type="gradient_descent", model__im2im_encoder=WITHOUT_NORMS
    )
    train(config, tmp_path)
    expected = average_states([weights(tmp_path, epoch) for epoch in (2, 3, 4)])
    metrics = metrics_of(tmp_path)
    assert metrics["averaged_epochs"] == [1, 2, 3]
    assert metrics["averaged_weights_used"] is True
    assert same_tensors(torch.load(tmp_path / "best.th"), expected)


def test_a_trainer_with_a_loop_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        CheckpointAveraging(str(tmp_path)).on_start(NoOpTrainer(str(tmp_path), None))
    assert str(error.value) == (
        "trainer.type makes a NoOpTrainer; expected 'image' or 'gradient_descent', whose epochs "
        "the callback 'checkpoint_averaging' can average"
    )


@Checkpointer.register("elsewhere")
class Elsewhere(Checkpointer):
    """Keeps its files in a place that only it knows."""


def test_a_single_epoch_is_left_as_it_is(cats_and_dogs: Path, tmp_path: Path) -> None:
    train(averaging(cats_and_dogs, trainer__num_epochs=1), tmp_path)
    assert "averaged_epochs" not in metrics_of(tmp_path)
    assert same_tensors(torch.load(tmp_path / "best.th"), weights(tmp_path, 1))


MISTAKES: List[Tuple[Dict[str, Any], str]] = [
    ({"count": 1}, "'checkpoint_averaging' is 1; expected at least 2"),
    ({"trainer__checkpointer": {}}, "keep_most_recent_by_count is 2; expected at least 3"),
    ({"trainer__checkpointer": {"save_completed_epochs": False}}, "no checkpoint at the end of"),
    ({"trainer__checkpointer": None}, "no checkpoint at the end of an epoch"),
    ({"trainer__moving_average": {"decay": 0.9}}, "both average the weights"),
    ({"trainer__checkpointer": "elsewhere"}, "checkpointer.type makes a Elsewhere; expected 'def"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=str)
def test_what_cannot_be_averaged_is_refused(
    cats_and_dogs: Path, tmp_path: Path, overrides: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(averaging(cats_and_dogs, **overrides), tmp_path)
