import io
import json
from typing import List

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.learning_rate_schedulers.pytorch_lr_schedulers import (
    ReduceOnPlateauLearningRateScheduler as AllenNLPReduceOnPlateau,
)

import allencv.plugin  # noqa: F401
from allencv.training.learning_rate_schedulers import ReduceOnPlateauLearningRateScheduler
from tests.configs import experiment


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
    scheduler = build(sgd, factor=0.5, patience=1)
    assert isinstance(scheduler, ReduceOnPlateauLearningRateScheduler)
    assert rates(scheduler, sgd, [0.5, 0.5, 0.5, 0.6, 0.6, 0.6]) == [1, 1, 0.5, 0.5, 0.5, 0.25]


def torchs_rates(values, mode, **params):
    """What torch's own scheduler does with the values of the metric themselves."""
    sgd = optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, mode=mode, **params)
    return rates(reference, sgd, values)


FALLING = [0.9 * 0.8**epoch for epoch in range(8)]
SLOWLY_FALLING = [0.9 - 0.00005 * epoch for epoch in range(8)]  # by less than the threshold
NOISY = [0.9, 0.7, 0.75, 0.72, 0.6999, 0.5, 0.4999999, 0.6, 0.45, 0.46]
PARAMS = [
    {},
    {"threshold": 0.1},
    {"threshold": 0.1, "threshold_mode": "abs"},
    {"cooldown": 2, "min_lr": 0.3},
]


@pytest.mark.parametrize("params", PARAMS, ids=str)
@pytest.mark.parametrize("values", [FALLING, SLOWLY_FALLING, NOISY, NOISY[::-1]])
@pytest.mark.parametrize(
    ("sign", "reference", "modes"), [(-1, "min", [None, "min", "max"]), (1, "max", [None, "max"])]
)
def test_the_sign_of_the_metric_decides_as_torchs_mode_does(sign, reference, modes, values, params):
    """A trainer passes on minus the loss, or the accuracy: a score, better when it is higher."""
    params = {"patience": 1, "factor": 0.5, **params}
    expected = torchs_rates(values, reference, **params)
    for mode in modes:
        sgd = optimizer()
        scheduler = build(sgd, **params, **({} if mode is None else {"mode": mode}))
        assert rates(scheduler, sgd, [sign * value for value in values]) == expected


def test_a_score_below_0_improves_by_rising():
    """Such as a correlation: -0.5 is no better than -0.5, and -0.4 is. torch's "rel" errs here."""
    sgd = optimizer()
    scheduler = build(sgd, factor=0.5, patience=0, threshold=0.1)
    scores = [-0.5, -0.5, -0.4, -0.39, -0.3, 0.0, 0.1]
    assert rates(scheduler, sgd, scores) == [1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]


def test_a_mode_that_contradicts_the_sign_is_refused():
    with pytest.raises(
        ConfigurationError, match=r"mode is 'min', but higher is better for .* \+accuracy; expect"
    ):
        build(optimizer(), mode="min").check([(1.0, "accuracy")], has_validation=True)
    for mode, sign in ((None, 1.0), ("max", 1.0), ("max", -1.0), ("min", -1.0)):
        scheduler = build(optimizer(), **({} if mode is None else {"mode": mode}))
        scheduler.check([(sign, "metric")], has_validation=True)
    with pytest.raises(ConfigurationError, match="expected validation_data_path"):
        build(optimizer()).check([(-1.0, "loss")], has_validation=False)


@pytest.mark.parametrize("trainer_type", ["image", "gradient_descent"])
@pytest.mark.parametrize("metric", ["-loss", "+accuracy"])
def test_a_run_keeps_its_rate_while_it_improves(cats_and_dogs, tmp_path, trainer_type, metric):
    """Against torch's scheduler, fed with the metrics of the run."""
    plateau = {"type": "reduce_on_plateau", "patience": 0, "factor": 0.5}
    config = experiment(
        cats_and_dogs,
        trainer__type=trainer_type,
        trainer__num_epochs=4,
        trainer__validation_metric=metric,
        trainer__optimizer={"type": "sgd", "lr": 0.02},
        trainer__learning_rate_scheduler=plateau,
        trainer__callbacks=["see_rates"],
    )
    SeeRates.seen = []
    train_model(Params(config), tmp_path)
    values = [
        json.loads((tmp_path / f"metrics_epoch_{epoch}.json").read_text())[
            f"validation_{metric[1:]}"
        ]
        for epoch in range(4)
    ]
    mode = "min" if metric[0] == "-" else "max"
    expected = torchs_rates(values, mode, patience=0, factor=0.5)
    assert SeeRates.seen == pytest.approx([0.02 * rate for rate in expected])


@TrainerCallback.register("see_rates")
class SeeRates(TrainerCallback):
    seen: List[float] = []

    def on_epoch(self, trainer, *args, **kwargs):
        self.seen.append(trainer.optimizer.param_groups[0]["lr"])


def test_every_argument_of_allennlps_class_is_taken():
    sgd = optimizer()
    params = {"threshold": 0.1, "threshold_mode": "abs", "cooldown": 2, "min_lr": [0.4], "eps": 0.0}
    with pytest.warns(DeprecationWarning, match="verbose"):
        scheduler = build(sgd, verbose=True, patience=0, mode="min", **params)
    # -0.95 is no improvement by 0.1; then come two epochs of cooldown; 0.4 is the lowest rate.
    assert rates(scheduler, sgd, [-1.0, -0.95, -1, -1, -1]) == pytest.approx([1] + [0.4] * 4)


@pytest.mark.parametrize("key", ["mode", "threshold_mode"])
def test_an_unknown_mode_is_refused(key):
    with pytest.raises(ConfigurationError, match=f"^{key} is 'minimum'; expected one of"):
        build(optimizer(), **{key: "minimum"})


def test_metric_is_needed():
    with pytest.raises(ConfigurationError, match="validation metric"):
        build(optimizer()).step(None)


def test_state_survives_a_checkpoint():
    metrics = [-1.0, -1.0, -1.0, -0.5, -0.5, -0.5, -0.5]
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


def test_the_config_says_the_rule_and_a_checkpoint_how_far_it_is():
    sgd = optimizer()
    old = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, mode="min", patience=0)
    old.step(-0.5)
    scheduler = build(sgd, patience=0, factor=0.5)
    scheduler.load_state_dict(old.state_dict())
    assert rates(scheduler, sgd, [-0.4, -0.4]) == [1, 0.5]
