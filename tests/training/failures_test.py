from types import SimpleNamespace
from typing import Any, Callable, Optional

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.callbacks.should_validate import ShouldValidateCallback

from allencv.training.errors import TrainingError
from allencv.training.failures import explain


class Own(TrainerCallback):
    def on_epoch(self, *args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError


def trainer(*callbacks: TrainerCallback) -> Any:
    parts = ("_validation_data_loader", "_learning_rate_scheduler", "_momentum_scheduler")
    return SimpleNamespace(
        **dict.fromkeys((*parts, "_moving_average", "optimizer")),
        data_loader=SimpleNamespace(batch_size=8),
        cuda_device=torch.device("cpu"),
        _num_gradient_accumulation_steps=2,
        _callbacks=list(callbacks),
    )


def explained(run: Callable[[], Any], owner: Any) -> Optional[TrainingError]:
    try:
        run()
    except Exception as error:
        return explain(error, owner)
    raise AssertionError("expected an error")


def test_the_part_of_a_library_that_fails_is_named() -> None:
    callback = ShouldValidateCallback("", validation_interval=0)
    owner = trainer(callback)
    error = explained(lambda: callback.on_epoch(owner, {}, 0), owner)
    assert str(error) == (
        "trainer.callbacks (ShouldValidateCallback) fails (ZeroDivisionError: integer modulo by "
        "zero); expected other values there, or another type"
    )


def test_an_error_in_a_users_own_part_keeps_its_traceback() -> None:
    callback = Own("")
    assert explained(callback.on_epoch, trainer(callback)) is None


@pytest.mark.parametrize("error", [ConfigurationError("it"), TrainingError("it"), OSError("it")])
def test_an_error_that_says_what_to_do_is_left_alone(error: Exception) -> None:
    assert explain(error, trainer()) is None


def test_a_single_image_at_batch_normalisation() -> None:
    layer = torch.nn.BatchNorm1d(3)
    error = explained(lambda: layer(torch.zeros(1, 3)), trainer())
    assert "needs two images or more (data_loader.batch_size is 8)" in str(error)
