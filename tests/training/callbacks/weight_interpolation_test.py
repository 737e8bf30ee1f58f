import copy
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader, DatasetReader
from allennlp.training import NoOpTrainer

import allencv.plugin  # noqa: F401
from allencv.training import evaluate
from allencv.training.callbacks.weight_interpolation import WeightInterpolation, interpolated
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training import surprise  # noqa: F401
from tests.training.callbacks.interruption import metrics_of, train, train_interrupted, weights

WITHOUT_NORMS = {
    **{"type": "feedforward", "input_channels": 3, "num_layers": 2, "hidden_channels": 16},
    **{"activations": "relu", "strides": 4, "batch_norm": False},
}
CALLBACK = {"type": "weight_interpolation", "shares": [0, 0.5]}


def interpolating(data: Path, **overrides: Any) -> Dict[str, Any]:
    config = {
        "data_loader__batch_size": 8,
        "model__im2im_encoder": WITHOUT_NORMS,
        "trainer__use_amp": False,
        "trainer__num_epochs": 3,
        "trainer__callbacks": [CALLBACK, "power_cut"],
    }
    return experiment(data, **{**config, **overrides})


def loss_of(model: Any, config: Dict[str, Any]) -> float:
    loader = DataLoader.from_params(
        Params({"type": "image", "batch_size": 8}),
        reader=DatasetReader.from_params(
            Params(copy.deepcopy(config["validation_dataset_reader"]))
        ),
        data_path=config["validation_data_path"],
    )
    loader.index_with(model.vocab)
    return evaluate(model, loader)["loss"]


def test_the_best_share_is_used(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = interpolating(cats_and_dogs, trainer__validation_metric="-loss")
    model = train(config, tmp_path)
    metrics = metrics_of(tmp_path)
    used = {name: value.clone() for name, value in model.state_dict().items()}
    first = torch.load(tmp_path / "first_weights.th")
    trained = weights(tmp_path, metrics["best_epoch"] + 1)
    losses = {}
    for share in (0, 0.5, 1):
        mean = {name: (1 - share) * first[name] + share * trained[name] for name in first}
        model.load_state_dict(mean)
        losses[share] = loss_of(model, config)
    share = metrics["trained_share"]
    assert share == min(losses, key=lambda each: losses[each])
    assert metrics["interpolated_validation_loss"] == pytest.approx(losses[share])
    assert metrics["first_validation_loss"] == pytest.approx(losses[0])
    assert metrics["best_validation_loss"] == pytest.approx(losses[1])
    for name, value in used.items():
        torch.testing.assert_close(value, (1 - share) * first[name] + share * trained[name])
    archived = type(model).from_archive(str(tmp_path / "model.tar.gz"))
    assert same_tensors(archived.state_dict(), used)


def test_a_model_is_never_worse_than_before(cats_and_dogs: Path, tmp_path: Path) -> None:
    """Training lowers the loss, so that the first weights are the best by this metric."""
    config = interpolating(
        cats_and_dogs,
        model__metrics={"surprise": "surprise"},
        trainer__validation_metric="+surprise",
    )
    model = train(config, tmp_path)
    metrics = metrics_of(tmp_path)
    assert metrics["best_validation_surprise"] < metrics["first_validation_surprise"]
    assert metrics["trained_share"] == 0
    first = torch.load(tmp_path / "first_weights.th")
    assert same_tensors(model.state_dict(), first)
    assert same_tensors(torch.load(tmp_path / "best.th"), first)


def test_counters_are_those_of_training() -> None:
    first = {"weight": torch.tensor([1.0, 3.0]), "steps": torch.tensor(0)}
    trained = {"weight": torch.tensor([2.0, 1.0]), "steps": torch.tensor(9)}
    mean = interpolated(first, trained, 0.25)
    assert mean["weight"].tolist() == [1.25, 2.5]
    assert mean["steps"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("at", [(0, 2), (1, 2)])
def test_an_interrupted_run_ends_with_the_same_weights(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: Tuple[int, int]
) -> None:
    config = interpolating(cats_and_dogs)
    train(config, tmp_path / "straight")
    train_interrupted(config, tmp_path / "run", at, monkeypatch)
    found, expected = metrics_of(tmp_path / "run"), metrics_of(tmp_path / "straight")
    for name in ("trained_share", "interpolated_validation_loss", "first_validation_loss"):
        assert found[name] == expected[name]


def test_first_weights_are_needed_to_resume(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = interpolating(cats_and_dogs)
    train(config, tmp_path)
    (tmp_path / "first_weights.th").unlink()
    with pytest.raises(ConfigurationError, match="first_weights.th is missing, and the callback"):
        train(config, tmp_path, recover=True)


def test_a_trainer_with_a_loop_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="makes a NoOpTrainer; expected 'image' or"):
        WeightInterpolation(str(tmp_path)).on_start(NoOpTrainer(str(tmp_path), None))


MISTAKES: List[Tuple[Dict[str, Any], str]] = [
    ({"trainer__callbacks": [{**CALLBACK, "shares": [1.0]}]}, r"is \[1.0\]; expected numbers of"),
    ({"trainer__callbacks": [{**CALLBACK, "shares": []}]}, r"is \[\]; expected numbers of"),
    ({"trainer__moving_average": {"decay": 0.9}}, "both change the weights"),
]


@pytest.mark.parametrize(("overrides", "message"), MISTAKES, ids=str)
def test_what_does_not_fit_is_refused(
    cats_and_dogs: Path, tmp_path: Path, overrides: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train(interpolating(cats_and_dogs, **overrides), tmp_path)


def test_validation_data_are_needed(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = interpolating(cats_and_dogs)
    del config["validation_data_path"]
    with pytest.raises(ConfigurationError, match="expected validation data, which choose"):
        train(config, tmp_path)
