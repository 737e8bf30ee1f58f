"""What callbacks ask, of AllenNLP's trainer and of ours."""

import math
from pathlib import Path
from typing import Any, Dict

import pytest
import torch
from allennlp.common import Params
from allennlp.training import Trainer, TrainerCallback

import allencv.plugin  # noqa: F401
from allencv.training import trainer_access
from tests.training.line import Batches, Line


@TrainerCallback.register("asking")
class Asking(TrainerCallback):
    """Asks at the end of training."""

    answers: Dict[str, Any] = {}

    def on_end(self, trainer: Any, epoch: Any = None, **kwargs: Any) -> None:
        Asking.answers = {
            "num_epochs": trainer_access.num_epochs(trainer),
            "before": trainer_access.epochs_before_start(trainer),
            "callbacks": trainer_access.callbacks_of(trainer),
            "validated": trainer_access.validate(trainer, epoch),
            "reached": [
                trainer_access.reaches_best(trainer, {"loss": loss}) for loss in (1.0, 7.0, 9.0)
            ],
        }
        with torch.no_grad():
            trainer.model.weight.fill_(5.0)
        trainer_access.save_as_best(trainer, f"{self.serialization_dir}/other.th")


def make(kind: str, folder: Path, **params: Any) -> Trainer:
    batches = Batches([{"x": torch.tensor([2.0, 4.0])}, {"x": torch.tensor([8.0, 14.0])}])
    # The mean of the images is 7, and so is the loss with a weight of 1, which stays.
    config = {
        **{"type": kind, "cuda_device": -1, "num_epochs": 2, "checkpointer": None},
        **{"optimizer": {"type": "sgd", "lr": 0.0}, **params},
    }
    if kind == "gradient_descent":
        config["run_confidence_checks"] = False
    return Trainer.from_params(
        Params(config),
        model=Line(),
        data_loader=batches,
        validation_data_loader=batches,
        serialization_dir=str(folder),
    )


@pytest.mark.parametrize("kind", ["image", "gradient_descent"])
def test_what_a_callback_asks_of_a_trainer(tmp_path: Path, kind: str) -> None:
    trainer = make(kind, tmp_path, callbacks=["asking"])
    metrics = trainer.train()
    answers = Asking.answers
    assert answers["num_epochs"] == 2
    assert answers["before"] == 0
    assert [type(each) for each in answers["callbacks"]].count(Asking) == 1
    assert answers["validated"]["loss"] == pytest.approx(7.0)
    assert answers["validated"]["loss"] == metrics["validation_loss"]
    assert answers["reached"] == [True, True, False]  # a lower loss is better
    assert trainer.get_best_weights_path() == str(tmp_path / "other.th")
    assert torch.load(tmp_path / "other.th")["weight"] == 5.0


def test_before_the_first_validation_everything_is_the_best(tmp_path: Path) -> None:
    trainer = make("image", tmp_path)
    assert trainer_access.reaches_best(trainer, {"loss": math.inf})


@pytest.mark.parametrize("kind", ["image", "gradient_descent"])
def test_the_parts_of_a_trainer(tmp_path: Path, kind: str) -> None:
    plain = make(kind, tmp_path)
    assert trainer_access.checkpointer_of(plain) is None
    assert trainer_access.validation_loader_of(plain) is plain.data_loader
    assert not trainer_access.has_moving_average(plain)
    assert not trainer_access.needs_all_gradients(plain)  # it is not distributed
    other = make(kind, tmp_path, checkpointer={}, moving_average={"decay": 0.9})
    assert trainer_access.checkpointer_of(other) is not None
    assert trainer_access.has_moving_average(other)
