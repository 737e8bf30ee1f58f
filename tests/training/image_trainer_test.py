import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import GradientDescentTrainer, Trainer, TrainerCallback
from allennlp.training.optimizers import SgdOptimizer

import allencv.plugin
from allencv.data.fields import image_field
from tests.conftest import same_tensors
from tests.experiments import experiment


class PulledPlug(Exception):
    pass


@TrainerCallback.register("pull_plug")
class PullPlug(TrainerCallback):
    """Ends training as a power cut would, after the step of the training that `at` says."""

    at = (-1, -1)

    def on_batch(self, *args: Any, epoch: int = 0, **kwargs: Any) -> None:
        if kwargs["is_training"] and (args[4], args[5]) == PullPlug.at:
            raise PulledPlug


def train(config: Dict[str, Any], folder: Path, recover: bool = False) -> Dict[str, Any]:
    """Trains, and returns the last weights, with their moving averages if there are any."""
    train_model(Params(json.loads(json.dumps(config))), folder, recover=recover)
    epochs = config["trainer"]["num_epochs"]
    state = torch.load(folder / f"model_state_e{epochs}_b0.th")
    training_state = torch.load(folder / f"training_state_e{epochs}_b0.th")
    for name, average in training_state.get("moving_average", {}).get("shadows", {}).items():
        state[f"average of {name}"] = average
    return state


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """The paths of the images that have been decoded."""
    sources = []
    load = image_field.load_image

    def counting(source: Any, *arguments: Any) -> torch.Tensor:
        if isinstance(source, str):
            sources.append(source)
        return load(source, *arguments)

    monkeypatch.setattr(image_field, "load_image", counting)
    return sources


SCHEDULES = {
    "plain": {},
    "everything": {
        "trainer__learning_rate_scheduler": {"type": "cosine", "t_initial": 5},
        "trainer__moving_average": {"decay": 0.9},
        "trainer__num_gradient_accumulation_steps": 2,
        "trainer__use_amp": True,
        "trainer__grad_norm": 1.0,
    },
    "reduce_on_plateau": {"trainer__learning_rate_scheduler": {"type": "reduce_on_plateau"}},
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("at", [(0, 1), (1, 2), (2, 3)])
def test_an_interrupted_run_ends_with_the_same_weights_to_the_bit(
    cats_and_dogs: Path, tmp_path: Path, decoded: List[str], name: str, at: "tuple[int, int]"
) -> None:
    config = experiment(
        cats_and_dogs,
        trainer__checkpointer={"save_every_num_batches": 1},
        trainer__callbacks=["pull_plug"],
        **SCHEDULES[name],
    )
    PullPlug.at = (-1, -1)
    uninterrupted = train(config, tmp_path / "uninterrupted")
    decoded_uninterrupted = len(decoded)
    decoded.clear()

    PullPlug.at = at
    with pytest.raises(PulledPlug):
        train(config, tmp_path / "interrupted")
    PullPlug.at = (-1, -1)
    torch.manual_seed(999)  # whatever the new process has drawn is forgotten
    recovered = train(config, tmp_path / "interrupted", recover=True)

    assert same_tensors(recovered, uninterrupted)
    # The step that was cut off was not yet in a checkpoint: it, and what had been prefetched of
    # this epoch and the next, is decoded again, and nothing from before.
    ahead = 4 * (2 + 3 + 3)
    assert len(decoded) <= decoded_uninterrupted + ahead
    for epoch in range(3):
        metrics = [
            json.loads((tmp_path / run / f"metrics_epoch_{epoch}.json").read_text())
            for run in ("uninterrupted", "interrupted")
        ]
        assert metrics[0]["validation_loss"] == metrics[1]["validation_loss"]


def test_nothing_is_decoded_to_get_back_to_a_finished_epoch(
    cats_and_dogs: Path, tmp_path: Path, decoded: List[str]
) -> None:
    config = experiment(cats_and_dogs, trainer__callbacks=["pull_plug"], data_loader__num_workers=0)
    PullPlug.at = (2, 1)
    with pytest.raises(PulledPlug):
        train(config, tmp_path)
    decoded.clear()
    PullPlug.at = (-1, -1)
    train(config, tmp_path, recover=True)
    assert len(decoded) == 24 + 10  # the third epoch and its validation


@pytest.mark.parametrize("averaged", [False, True])
def test_a_best_model_lost_in_a_crash_is_made_again(
    cats_and_dogs: Path, tmp_path: Path, averaged: bool
) -> None:
    """AllenNLP removes best.th before it makes the new one, after it has written the checkpoint."""
    average = {"trainer__moving_average": {"decay": 0.9}} if averaged else {}
    config = experiment(cats_and_dogs, trainer__callbacks=["pull_plug"], **average)
    PullPlug.at = (1, 1)
    with pytest.raises(PulledPlug):
        train(config, tmp_path)
    best = torch.load(tmp_path / "best.th")
    (tmp_path / "best.th").unlink()
    with pytest.raises(PulledPlug):
        train(config, tmp_path, recover=True)
    assert same_tensors(torch.load(tmp_path / "best.th"), best)
    checkpoint = torch.load(tmp_path / "model_state_e1_b0.th")
    assert same_tensors(checkpoint, best) != averaged


def test_the_best_model_of_before_the_interruption_is_returned(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    """With AllenNLP's trainer the last model is returned if the best came before."""
    config = experiment(
        cats_and_dogs,
        trainer__callbacks=["pull_plug"],
        trainer__validation_metric="-accuracy",  # so that learning makes it worse
        trainer__optimizer={"type": "adamw", "lr": 0.003},
    )
    PullPlug.at = (1, 1)
    with pytest.raises(PulledPlug):
        train(config, tmp_path)
    PullPlug.at = (-1, -1)
    model = train_model(Params(config), tmp_path, recover=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    best = torch.load(tmp_path / "best.th")
    assert same_tensors(model.state_dict(), best)
    last = torch.load(tmp_path / "model_state_e3_b0.th")
    assert same_tensors(best, last) == (metrics["best_epoch"] == 2)


def test_a_loader_of_allennlps_is_recovered_too(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(
        cats_and_dogs,
        data_loader={"type": "multiprocess", "batch_size": 4, "shuffle": True},
        trainer__callbacks=["pull_plug"],
        trainer__checkpointer={"save_every_num_batches": 1},
    )
    PullPlug.at = (1, 3)
    with pytest.raises(PulledPlug):
        train(config, tmp_path)
    PullPlug.at = (-1, -1)
    train(config, tmp_path, recover=True)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["epoch"] == 2
    assert (tmp_path / "model.tar.gz").is_file()


def test_it_trains_as_allennlps_trainer_does(cats_and_dogs: Path, tmp_path: Path) -> None:
    """Same arguments, same weights; without accumulation, where AllenNLP's is right as well."""
    overrides = {
        "trainer__grad_norm": 0.5,
        "model__regularizer": {"regexes": [["weight", {"type": "l2", "alpha": 0.01}]]},
    }
    ours = train(experiment(cats_and_dogs, **overrides), tmp_path / "ours")
    theirs = train(
        experiment(cats_and_dogs, trainer__type="gradient_descent", **overrides),
        tmp_path / "theirs",
    )
    assert same_tensors(ours, theirs)
    metrics = [
        json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("ours", "theirs")
    ]
    for key in ("training_accuracy", "training_loss", "training_reg_loss", "validation_loss"):
        assert metrics[0][key] == pytest.approx(metrics[1][key], abs=1e-6), key


class Line(torch.nn.Module):
    """`weight * x`, with a loss that is easily differentiated by hand: the mean of it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> Dict[str, torch.Tensor]:
        return {"loss": (self.weight * x).mean()}

    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        return {}

    def get_regularization_penalty(self) -> None:
        return None


class Batches(List[Any]):
    def set_target_device(self, device: torch.device) -> None:
        pass


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_accumulated_gradients_are_those_of_the_mean_loss(
    tmp_path: Path, scaled: bool, steps: int
) -> None:
    model = Line()
    optimizer = SgdOptimizer([("weight", model.weight)], lr=1.0)
    batches = Batches({"x": torch.tensor([float(x)])} for x in (1, 2, 3, 4))
    trainer = allencv.plugin.training.ImageTrainer(
        model,
        optimizer,
        batches,
        num_epochs=1,
        cuda_device=-1,
        num_gradient_accumulation_steps=steps,
        serialization_dir=str(tmp_path),
    )
    if scaled:
        trainer._scaler = torch.amp.GradScaler("cpu")
    trainer.train()
    # The gradient is the mean of x in a group of batches: 2.5 on average, in 4 / steps groups.
    assert model.weight.item() == pytest.approx(1.0 - 2.5 * 4 / steps)


def test_allennlps_scaled_gradients_are_too_large(tmp_path: Path) -> None:
    """Why there is a loop of our own: with AllenNLP's the step is 4 times what it should be."""
    model = Line()
    batches = Batches({"x": torch.tensor([float(x)])} for x in (1, 2, 3, 4))
    trainer = GradientDescentTrainer(
        model,
        SgdOptimizer([("weight", model.weight)], lr=1.0),
        batches,
        num_epochs=1,
        cuda_device=-1,
        num_gradient_accumulation_steps=4,
        serialization_dir=str(tmp_path),
        run_confidence_checks=False,
    )
    trainer._scaler = torch.amp.GradScaler("cpu")
    trainer.train()
    assert model.weight.item() == pytest.approx(1.0 - 2.5 * 4)


def test_mixed_precision_on_a_cpu_computes_in_bfloat16(cats_and_dogs: Path, tmp_path: Path) -> None:
    class SeeDtype(TrainerCallback):
        seen: Dict[bool, torch.dtype] = {}

        def on_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            trainer.model._im2im_encoder.register_forward_hook(
                lambda module, inputs, output: self.seen.update({module.training: output.dtype})
            )

    TrainerCallback.register("see_dtype", exist_ok=True)(SeeDtype)
    config = experiment(
        cats_and_dogs,
        trainer__use_amp=True,
        trainer__num_epochs=1,
        trainer__callbacks=["see_dtype"],
    )
    state = train(config, tmp_path)
    assert SeeDtype.seen == {True: torch.bfloat16, False: torch.bfloat16}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}


def build(**params: Any) -> Trainer:
    model = Line()
    return Trainer.from_params(
        Params({"type": "image", "cuda_device": -1, **params}),
        model=model,
        data_loader=Batches(),
        serialization_dir=None,
    )


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'num_epoch'; expected one of num_epochs"):
        build(num_epoch=3)
    with pytest.raises(ConfigurationError, match="amp_dtype on a cpu is 'float16'"):
        build(use_amp=True, amp_dtype="float16")


def test_a_nan_loss_stops_training(tmp_path: Path) -> None:
    trainer = build()
    trainer.data_loader.append({"x": torch.tensor([float("nan")])})
    with pytest.raises(ValueError, match="nan loss"):
        trainer.train()
