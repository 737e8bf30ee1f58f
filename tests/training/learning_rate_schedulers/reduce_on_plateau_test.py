import io

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.learning_rate_schedulers.pytorch_lr_schedulers import (
    ReduceOnPlateauLearningRateScheduler as AllenNLPReduceOnPlateau,
)

from allencv.training.learning_rate_schedulers import ReduceOnPlateauLearningRateScheduler


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)


def build(for_optimizer, **params):
    return LearningRateScheduler.from_params(
        Params({"type": "reduce_on_plateau", **params}), optimizer=for_optimizer
    )


def rates(scheduler, for_optimizer, metrics):
    seen = []
    for metric in metrics:
        scheduler.step(metric)
        seen.append(for_optimizer.param_groups[0]["lr"])
    return seen


def test_allennlps_own_class_still_fails():
    # Delete ours when this one can be built.
    with pytest.raises(TypeError, match="verbose"):
        AllenNLPReduceOnPlateau(optimizer())


def test_the_registered_name_lowers_the_rate_on_a_plateau():
    sgd = optimizer()
    scheduler = build(sgd, mode="max", factor=0.5, patience=1)
    assert isinstance(scheduler, ReduceOnPlateauLearningRateScheduler)
    assert rates(scheduler, sgd, [0.5, 0.5, 0.5, 0.6, 0.6, 0.6]) == [1, 1, 0.5, 0.5, 0.5, 0.25]


def test_every_argument_of_allennlps_class_is_taken():
    sgd = optimizer()
    params = {"threshold": 0.1, "threshold_mode": "abs", "cooldown": 2, "min_lr": [0.4], "eps": 0.0}
    with pytest.warns(DeprecationWarning, match="verbose"):
        scheduler = build(sgd, verbose=True, patience=0, **params)
    # 0.95 is no improvement by 0.1; then come two epochs of cooldown; 0.4 is the lowest rate.
    assert rates(scheduler, sgd, [1.0, 0.95, 1, 1, 1]) == pytest.approx([1, 0.4, 0.4, 0.4, 0.4])


@pytest.mark.parametrize("key", ["mode", "threshold_mode"])
def test_an_unknown_mode_is_refused(key):
    with pytest.raises(ConfigurationError, match=f"^{key} is 'minimum'; expected one of"):
        build(optimizer(), **{key: "minimum"})


def test_metric_is_needed():
    with pytest.raises(ConfigurationError, match="validation metric"):
        build(optimizer()).step(None)


def test_state_survives_a_checkpoint():
    metrics = [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    straight = optimizer()
    expected = rates(build(straight, patience=1), straight, metrics)

    first = optimizer()
    scheduler = build(first, patience=1)
    seen = rates(scheduler, first, metrics[:2])
    buffer = io.BytesIO()
    torch.save([scheduler.state_dict(), first.state_dict()], buffer)
    buffer.seek(0)
    scheduler_state, optimizer_state = torch.load(buffer)

    second = optimizer()
    second.load_state_dict(optimizer_state)
    recovered = build(second, patience=1)
    recovered.load_state_dict(scheduler_state)
    assert seen + rates(recovered, second, metrics[2:]) == expected
