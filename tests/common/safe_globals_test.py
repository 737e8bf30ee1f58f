import io
import pickle
from datetime import date

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

from allencv.common.safe_globals import add_safe_globals


@pytest.fixture(autouse=True)
def no_safe_globals():
    kept = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(kept)


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer


def state_after_cosine_schedule():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = LearningRateScheduler.from_params(
        Params({"type": "cosine", "t_initial": 5}), optimizer=optimizer
    )
    schedule.step()
    return {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}


def test_checkpoint_after_a_cosine_schedule_is_refused_without_and_loads_with():
    state = state_after_cosine_schedule()
    # The reason for add_safe_globals: delete it when AllenNLP's schedule keeps to Python floats.
    assert isinstance(state["optimizer"]["param_groups"][0]["lr"], np.float64)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(saved(state))

    add_safe_globals()
    assert torch.load(saved(state)) == state


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_every_kind_of_number_loads(kind):
    add_safe_globals()
    loaded = torch.load(saved({"value": kind(1)}))["value"]
    assert type(loaded) is kind
    assert loaded == 1


@pytest.mark.parametrize("value", [np.array([1.0]), np.str_("text"), date(2020, 1, 1)])
def test_everything_else_stays_refused(value):
    add_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(saved({"value": value}))
