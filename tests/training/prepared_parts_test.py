from typing import Any, Dict

import torch
from allennlp.common import Lazy, Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.moving_average import MovingAverage

import allencv.training.learning_rate_schedulers
import allencv.training.moving_average  # noqa: F401
from allencv.training.prepared_parts import with_statistics, with_steps_per_epoch


def test_a_moving_average_gets_the_running_statistics() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3),
        torch.nn.BatchNorm1d(3),
        torch.nn.BatchNorm1d(3, track_running_stats=False),
    )
    lazy = Lazy(MovingAverage, params=Params({"type": "exponential", "decay": 0.5}))
    average = with_statistics(lazy, model).construct(parameters=list(model.named_parameters()))
    names = set(average.state_dict()["shadows"])
    parameters = {name for name, _ in model.named_parameters()}
    assert names - parameters == {"1.running_mean", "1.running_var"}
    assert parameters <= names
    model[1].running_mean.fill_(1.0)
    average.apply()
    average.assign_average_value()
    assert model[1].running_mean.tolist() == [0.5] * 3  # the buffer of the model itself


def test_a_schedule_gets_the_steps_of_the_rank_with_the_fewest() -> None:
    params: Dict[str, Any] = {"type": "warmup_cosine", "warmup_steps": 2}
    lazy = Lazy(LearningRateScheduler, params=Params(params))
    prepared = with_steps_per_epoch(lazy, 3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = prepared.construct(optimizer=optimizer, num_epochs=2, num_steps_per_epoch=5)
    assert schedule.num_updates == 6
    assert prepared._params.as_dict() == params  # for messages
