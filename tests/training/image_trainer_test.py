import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training import GradientDescentTrainer, Trainer, TrainerCallback
from allennlp.training.optimizers import SgdOptimizer
from torch.utils._python_dispatch import TorchDispatchMode

import allencv.plugin
from allencv.data.fields import image_field
from allencv.training import TrainingError
from tests.configs import experiment
from tests.conftest import same_tensors
from tests.training.line import Batches, Line


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


INTERRUPTIONS = {
    "plain": [(0, 1)],
    "everything": [(0, 1), (1, 2), (2, 3)],
    "reduce_on_plateau": [(2, 3)],
}
"""Where a run with each schedule is interrupted: after a step of an epoch."""


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULES)
def test_an_interrupted_run_ends_with_the_same_weights_to_the_bit(
    cats_and_dogs: Path, tmp_path: Path, decoded: List[str], name: str
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

    for at in INTERRUPTIONS[name]:
        decoded.clear()
        folder = tmp_path / f"interrupted at {at}"
        PullPlug.at = at
        with pytest.raises(PulledPlug):
            train(config, folder)
        PullPlug.at = (-1, -1)
        torch.manual_seed(999)  # whatever the new process has drawn is forgotten
        recovered = train(config, folder, recover=True)

        assert same_tensors(recovered, uninterrupted), at
        # The step that was cut off was not yet in a checkpoint: it, and what had been prefetched
        # of this epoch and the next, is decoded again, and nothing from before.
        ahead = 4 * (2 + 3 + 3)
        assert len(decoded) <= decoded_uninterrupted + ahead
        for epoch in range(3):
            metrics = [
                json.loads((run / f"metrics_epoch_{epoch}.json").read_text())
                for run in (tmp_path / "uninterrupted", folder)
            ]
            assert metrics[0]["validation_loss"] == metrics[1]["validation_loss"]


def test_batches_that_were_left_out_do_not_shift_a_recovered_run(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    shutil.copytree(cats_and_dogs, tmp_path / "data")
    for number in range(6):
        (tmp_path / "data" / "train" / "Cat" / f"{number:03d}.jpg").write_text("this is a text")
    config = experiment(
        tmp_path / "data",
        data_loader__batch_size=1,
        data_loader__on_error="skip",
        validation_data_loader={"type": "image", "batch_size": 4},
        trainer__checkpointer={"save_every_num_batches": 4},
        trainer__callbacks=["pull_plug"],
        trainer__num_epochs=2,
    )
    PullPlug.at = (-1, -1)
    uninterrupted = train(config, tmp_path / "uninterrupted")
    PullPlug.at = (1, 14)
    with pytest.raises(PulledPlug):
        train(config, tmp_path / "interrupted")
    assert (tmp_path / "interrupted" / "training_state_e1_b12.th").exists()
    PullPlug.at = (-1, -1)
    recovered = train(config, tmp_path / "interrupted", recover=True)
    assert same_tensors(recovered, uninterrupted)


def test_nothing_is_decoded_to_get_back_to_a_finished_epoch(
    cats_and_dogs: Path, tmp_path: Path, decoded: List[str]
) -> None:
    config = experiment(
        cats_and_dogs,
        trainer__callbacks=["pull_plug"],
        trainer__enable_default_callbacks=False,
        data_loader__num_workers=0,
    )
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
        model__metrics={"hits": "top_k_accuracy"},
        trainer__validation_metric="-hits",  # so that learning makes it worse
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
    """
    Same arguments, same weights; without accumulation and with batches of the same size, where
    AllenNLP's is right as well.
    """
    overrides = {
        "validation_data_loader": {"type": "image", "batch_size": 5},
        "trainer__grad_norm": 0.5,
        "model__regularizer": {"regexes": [["weight", {"type": "l2", "alpha": 0.01}]]},
    }
    plain = {"trainer__use_amp": False, "trainer__channels_last": False}
    ours = train(experiment(cats_and_dogs, **plain, **overrides), tmp_path / "ours")
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


@pytest.mark.parametrize("sizes", [(3, 3, 3, 1), (10,), (4, 6), (1, 2, 3, 4)])
def test_accumulated_batches_count_by_their_images(tmp_path: Path, sizes: "List[int]") -> None:
    model = Line()
    numbers = torch.arange(10.0)
    trainer = allencv.plugin.training.ImageTrainer(
        model,
        SgdOptimizer([("weight", model.weight)], lr=0.1),
        Batches({"x": part} for part in numbers.split(list(sizes))),
        num_epochs=1,
        cuda_device=-1,
        num_gradient_accumulation_steps=len(sizes),
        serialization_dir=str(tmp_path),
    )
    metrics = trainer.train()
    assert model.weight.item() == pytest.approx(1.0 - 0.1 * 4.5)
    assert metrics["training_loss"] == pytest.approx(4.5)


@pytest.mark.parametrize("sizes", [(10,), (3, 3, 3, 1), (1, 2, 3, 4)])
def test_the_loss_of_an_epoch_does_not_depend_on_the_batches(sizes: "List[int]") -> None:
    batches = Batches({"x": part} for part in torch.arange(10.0).split(list(sizes)))
    trainer = build(num_epochs=1, optimizer={"type": "sgd", "lr": 0.0}, checkpointer=None)
    trainer.data_loader.extend(batches)
    trainer._validation_data_loader = batches
    total, penalty, count = trainer._validation_loss(0)
    assert (total, penalty, count) == (pytest.approx(45.0), None, 10)
    metrics = trainer.train()
    assert metrics["training_loss"] == pytest.approx(4.5)
    assert metrics["validation_loss"] == pytest.approx(4.5)


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
        trainer__enable_default_callbacks=False,
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


# What is lost, and what is said of it.


def test_an_epoch_without_a_batch_is_no_training() -> None:
    """As with `drop_last` and a stream of fewer images than `batch_size`."""
    trainer = build(num_epochs=1, optimizer={"type": "sgd", "lr": 0.1}, checkpointer=None)
    with pytest.raises(ConfigurationError, match="the epoch has no batch; expected more images"):
        trainer.train()


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_loss_that_is_not_finite_names_the_step_and_the_images(bad: str, tmp_path: Path) -> None:
    trainer = build()
    trainer._serialization_dir = str(tmp_path)
    for number in range(5):
        value = float(bad) if number == 2 else 1.0
        paths = [{"image": f"{number}-{each}.jpg"} for each in range(5)]
        trainer.data_loader.append({"x": torch.tensor([value]), "metadata": paths})
    trainer.model.forward = lambda x, metadata: {"loss": (trainer.model.weight * x).mean()}
    with pytest.raises(TrainingError) as error:
        trainer.train()
    assert str(error.value) == (
        f"the loss is {bad} at step 3 of epoch 1 (2-0.jpg, 2-1.jpg, 2-2.jpg and 2 more): try a "
        "lower trainer.optimizer.lr, trainer.grad_norm 1.0, or trainer.use_amp false; the "
        f"model is saved in {tmp_path}/not_finite.th"
    )
    state = torch.load(tmp_path / "not_finite.th")
    assert state["images"] == [f"2-{each}.jpg" for each in range(5)]
    assert (state["epoch"], state["step"]) == (0, 3)
    assert set(state["model"]) == {"weight"}


def test_a_lost_model_is_not_saved_as_a_checkpoint(cats_and_dogs: Path, tmp_path: Path) -> None:
    class Spoil(TrainerCallback):
        def on_batch(self, trainer: Any, *args: Any, epoch: int = 0, **kwargs: Any) -> None:
            if kwargs["is_training"] and (args[3], args[4]) == (1, 2):
                with torch.no_grad():
                    next(trainer.model.parameters()).fill_(float("nan"))

    TrainerCallback.register("spoil", exist_ok=True)(Spoil)
    config = experiment(
        cats_and_dogs,
        trainer__callbacks=["spoil"],
        trainer__checkpointer={"save_every_num_batches": 1, "keep_most_recent_by_count": 100},
    )
    with pytest.raises(TrainingError, match=r"step 3 of epoch 2 \(.*/train/.*\.jpg"):
        train(config, tmp_path)
    kept = sorted(path.name for path in tmp_path.glob("model_state_*"))
    assert "model_state_e1_b1.th" in kept
    assert "model_state_e1_b3.th" not in kept
    for path in kept:
        if path != "model_state_e1_b2.th":  # spoilt by the callback before it was saved
            assert all(each.isfinite().all() for each in torch.load(tmp_path / path).values())


def test_too_little_memory_names_the_keys(cats_and_dogs: Path, tmp_path: Path) -> None:
    class Greedy(TrainerCallback):
        def on_batch(self, *args: Any, **kwargs: Any) -> None:
            torch.empty(2**55)

    TrainerCallback.register("greedy", exist_ok=True)(Greedy)
    with pytest.raises(
        TrainingError,
        match=r"not enough cpu memory for data_loader.batch_size 4: lower it, and raise "
        r"trainer.num_gradient_accumulation_steps \(now 1\)",
    ):
        train(experiment(cats_and_dogs, trainer__callbacks=["greedy"]), tmp_path)


def test_a_single_image_is_too_few_for_batch_normalisation_of_1_x_1(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = experiment(
        cats_and_dogs,
        dataset_reader__transforms=[{"type": "eval", "size": 2}],
        data_loader__batch_size=1,
    )
    with pytest.raises(TrainingError, match=r"needs two images .*data_loader.batch_size is 1\)"):
        train(config, tmp_path)


# No step waits for the device.


class CountReads(TorchDispatchMode):
    """Counts how often the host reads a number from a tensor, as `.item()` and `.tolist()` do."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_no_step_reads_anything_from_the_device(cats_and_dogs: Path, tmp_path: Path) -> None:
    def reads(batch_size: int) -> int:
        config = experiment(
            cats_and_dogs,
            data_loader__batch_size=batch_size,
            trainer__num_epochs=2,
            trainer__optimizer={"type": "sgd", "lr": 0.1, "momentum": 0.9},
            trainer__grad_norm=1.0,
            trainer__moving_average={"decay": 0.9},
            trainer__learning_rate_scheduler={"type": "warmup_cosine", "warmup_epochs": 1},
            trainer__log_interval=1e9,
            model__top_k=2,
        )
        with CountReads() as counter:
            train(config, tmp_path / str(batch_size))
        return counter.count

    assert reads(2) == reads(12)  # 12 steps an epoch and 2, and the same validation


def test_the_gpu_of_an_apple_computer(
    cats_and_dogs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here "cpu:0" stands for "mps", as AllenNLP takes it for a GPU that is not there."""
    small: Dict[str, Any] = {"trainer__num_epochs": 1, "evaluate_on_test": True}
    small["test_data_path"] = str(cats_and_dogs / "test")
    expected = train(experiment(cats_and_dogs, **small), tmp_path / "cpu")
    name = "allencv.training.image_trainer.apple_gpu"
    monkeypatch.setattr(name, lambda device: torch.device("cpu", 0))
    small["trainer__cuda_device"] = "mps"
    assert same_tensors(train(experiment(cats_and_dogs, **small), tmp_path / "mps"), expected)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="needs a computer without it")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match='cuda_device is "mps", but torch finds no such'):
        build(cuda_device="mps")
    with pytest.raises(ConfigurationError, match=r"cuda_device is 'cuda:1'; expected the number"):
        build(cuda_device="cuda:1")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_waits_for_a_gpu(cats_and_dogs: Path, tmp_path: Path) -> None:
    class WatchSteps(TrainerCallback):
        """Lets torch raise an error at whatever waits, from the second step on."""

        def on_batch(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            is_last = args[4] == len(trainer.data_loader)
            torch.cuda.set_sync_debug_mode(
                "error" if kwargs["is_training"] and not is_last else "default"
            )

    TrainerCallback.register("watch_steps", exist_ok=True)(WatchSteps)
    config = experiment(
        cats_and_dogs,
        trainer__cuda_device=0,
        trainer__callbacks=["watch_steps"],
        trainer__grad_norm=1.0,
        trainer__log_interval=1e9,
    )
    try:
        train(config, tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_metrics_are_there_for_a_callback_that_looks(cats_and_dogs: Path, tmp_path: Path) -> None:
    class Look(TrainerCallback):
        seen: List[Dict[str, float]] = []

        def on_batch(self, *args: Any, **kwargs: Any) -> None:
            if kwargs["is_training"]:
                self.seen.append(dict(args[3]))
                assert torch.is_tensor(kwargs["batch_grad_norm"])

    TrainerCallback.register("look", exist_ok=True)(Look)
    config = experiment(
        cats_and_dogs, trainer__callbacks=["look"], trainer__grad_norm=True, trainer__num_epochs=1
    )
    train(config, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(Look.seen) == 6
    losses = [each["batch_loss"] for each in Look.seen]
    assert Look.seen[-1]["loss"] == pytest.approx(sum(losses) / 6)
    assert metrics["training_loss"] == pytest.approx(sum(losses) / 6)
    assert metrics["training_accuracy"] == Look.seen[-1]["accuracy"]


def test_with_the_callbacks_of_allennlp(cats_and_dogs: Path, tmp_path: Path) -> None:
    config = experiment(
        cats_and_dogs,
        trainer__callbacks=[
            {"type": "confidence_checks"},
            {"type": "console_logger", "should_log_inputs": True},
            {"type": "should_validate_callback", "validation_start": 1, "validation_interval": 1},
            {
                "type": "tensorboard",
                "summary_interval": 2,
                "distribution_interval": 3,
                "should_log_learning_rate": True,
            },
            {"type": "track_epoch_callback"},
        ],
        trainer__grad_norm=1.0,
    )
    state = train(config, tmp_path / "with")
    assert any((tmp_path / "with" / "log" / "train").iterdir())
    # None of them changes what is learnt.
    del config["trainer"]["callbacks"]
    assert same_tensors(train(config, tmp_path / "without"), state)


# The parts of the machine.


def test_the_moving_average_takes_the_running_statistics_too(
    cats_and_dogs: Path, tmp_path: Path
) -> None:
    config = experiment(cats_and_dogs, trainer__moving_average={"decay": 0.9})
    averaged = train(config, tmp_path)
    best = torch.load(tmp_path / "best.th")
    names = [name for name in best if name.endswith(("running_mean", "running_var"))]
    assert names
    states = {
        epoch: torch.load(tmp_path / f"training_state_e{epoch}_b0.th")["moving_average"]["shadows"]
        for epoch in (2, 3)
    }
    for name in names:
        assert not averaged[name].equal(averaged[f"average of {name}"])
    assert (
        any(all(best[name].equal(shadows[name]) for name in names) for shadows in states.values())
        or json.loads((tmp_path / "metrics.json").read_text())["best_epoch"] == 0
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_order_changes_no_result(
    cats_and_dogs: Path, tmp_path: Path, channels_last: bool
) -> None:
    class SeeFormat(TrainerCallback):
        seen: List[bool] = []

        def on_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            self.seen.append(trainer.model.is_channels_last())

    TrainerCallback.register("see_format", exist_ok=True)(SeeFormat)
    overrides = {
        "trainer__use_amp": False,
        "trainer__num_epochs": 1,
        "trainer__optimizer": {"type": "sgd", "lr": 0.01},
        "trainer__callbacks": ["see_format"],
        "model__im2im_encoder__widths": [16, 32],
        "model__im2vec_encoder__input_channels": 32,
    }
    plain = train(
        experiment(cats_and_dogs, trainer__channels_last=False, **overrides), tmp_path / "plain"
    )
    state = train(
        experiment(cats_and_dogs, trainer__channels_last=channels_last, **overrides),
        tmp_path / "other",
    )
    assert SeeFormat.seen[-2:] == [False, channels_last]
    for name, tensor in state.items():
        assert torch.allclose(tensor, plain[name], atol=1e-4), name


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with it")
def test_compiled_code_trains_the_same(cats_and_dogs: Path, tmp_path: Path) -> None:
    overrides = {"trainer__use_amp": False, "trainer__optimizer": {"type": "sgd", "lr": 0.01}}
    plain = train(experiment(cats_and_dogs, **overrides), tmp_path / "plain")
    config = experiment(cats_and_dogs, trainer__compile=["_im2im_encoder"], **overrides)
    state = train(config, tmp_path / "compiled")
    assert state.keys() == plain.keys()
    assert all(torch.allclose(state[name], plain[name], atol=1e-3) for name in state)


def test_a_network_that_torch_crashes_with_is_refused(cats_and_dogs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="channels_last is true; expected false or null"):
        train(experiment(cats_and_dogs, trainer__channels_last=True), tmp_path)


def test_a_stream_is_trained_on_and_recovered(tmp_path: Path, cats_and_dogs: Path) -> None:
    for shard in range(3):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for label in ("Cat", "Dog"):
                for path in sorted((cats_and_dogs / "train" / label).glob("*.jpg"))[shard::3]:
                    for suffix, content in ((".jpg", path.read_bytes()), (".cls", label.encode())):
                        member = tarfile.TarInfo(f"{label}{path.stem}{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    config = experiment(
        cats_and_dogs,
        dataset_reader__type="webdataset",
        train_data_path=f"{tmp_path}/*.tar",
        trainer__callbacks=["pull_plug"],
        trainer__learning_rate_scheduler={
            "type": "warmup_cosine",
            "warmup_steps": 2,
            "num_steps_per_epoch": 6,
        },
    )
    PullPlug.at = (-1, -1)
    uninterrupted = train(config, tmp_path / "uninterrupted")
    PullPlug.at = (2, 3)
    with pytest.raises(PulledPlug):
        train(config, tmp_path / "interrupted")
    PullPlug.at = (-1, -1)
    assert same_tensors(train(config, tmp_path / "interrupted", recover=True), uninterrupted)
