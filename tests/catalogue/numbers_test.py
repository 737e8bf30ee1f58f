"""Numbers that parts of AllenNLP and torch take and cannot use."""

import copy
from pathlib import Path
from typing import Any, Dict

import pytest
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

import allencv.plugin  # noqa: F401
from allencv.catalogue import find_mistakes
from tests.configs import experiment

CONFIG = experiment(Path("no-such-folder"))
SCHEDULE = "trainer.learning_rate_scheduler"


def changed(key: str, value: Any) -> Dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *keys, last = key.split(".")
    place = config
    for each in keys:
        place = place[each]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        (SCHEDULE, {"type": "step", "step_size": 0}, ".step_size"),
        (SCHEDULE, {"type": "step", "step_size": 1, "gamma": -0.1}, ".gamma"),
        (SCHEDULE, {"type": "multi_step", "milestones": [2, 1]}, ".milestones"),
        (SCHEDULE, {"type": "multi_step", "milestones": []}, ".milestones"),
        (SCHEDULE, {"type": "cosine", "t_initial": 0}, ".t_initial"),
        (SCHEDULE, {"type": "cosine", "t_initial": 1, "t_mul": 0.1}, ""),
        (SCHEDULE, {"type": "noam", "model_size": 8, "warmup_steps": 0}, ".warmup_steps"),
        (SCHEDULE, {"type": "slanted_triangular", "cut_frac": 2.0}, ".cut_frac"),
        (SCHEDULE, {"type": "constant", "last_epoch": 3}, ".last_epoch"),
        (SCHEDULE, {"type": "combined", "schedulers": [[0, "constant"]]}, ".schedulers.0.0"),
        (SCHEDULE, {"type": "reduce_on_plateau", "factor": 1.5}, ".factor"),
        (SCHEDULE, {"type": "reduce_on_plateau", "min_lr": [0.1, 0.2]}, ""),
        (SCHEDULE, {"type": "one_cycle", "div_factor": 0.0}, ".div_factor"),
        (SCHEDULE, {"type": "warmup_cosine", "warmup_epochs": 3}, ".warmup_epochs"),
        (SCHEDULE, {"type": "warmup_cosine", "num_epochs": 9}, ".num_epochs"),
        (
            "trainer.momentum_scheduler",
            {"type": "inverted_triangular", "cool_down": 1, "warm_up": 1},
            "",
        ),
        ("trainer.optimizer", {"type": "dense_sparse_adam", "lr": -1.0}, ".lr"),
        ("trainer.optimizer", {"type": "huggingface_adamw", "lr": 0.1, "betas": [1.5, 0.9]}, ""),
        ("trainer.optimizer", {"type": "adafactor", "lr": -1.0}, ".lr"),
        ("trainer.optimizer", {"type": "sgd", "lr": 0.1, "momentum": 1.5}, ".momentum"),
        ("trainer.moving_average", {"type": "exponential", "decay": 2.0}, ".decay"),
        ("trainer.checkpointer", {"save_every_num_batches": 0}, ".save_every_num_batches"),
        (
            "trainer.callbacks",
            [{"type": "tensorboard", "summary_interval": 0}],
            ".0.summary_interval",
        ),
        ("trainer.callbacks", [{"type": "checkpoint_averaging", "count": 1}], ".0.count"),
        ("trainer.no_grad", ["["], ""),
        ("data_loader", {"type": "multiprocess", "batch_size": 0}, ".batch_size"),
        (
            "data_loader",
            {"type": "multiprocess", "batch_size": 4, "max_instances_in_memory": 2},
            ".max_instances_in_memory",
        ),
        (
            "data_loader",
            {"type": "multiprocess", "batch_sampler": {"type": "bucket", "batch_size": 0}},
            ".batch_sampler.batch_size",
        ),
        ("numpy_seed", -1, ""),
        ("distributed", {"cuda_devices": [0]}, ".cuda_devices"),
    ],
    ids=str,
)
def test_an_impossible_number_is_a_mistake_at_its_key(key: str, value: Any, place: str) -> None:
    (mistake,) = [each for each in find_mistakes(changed(key, value)) if not each.is_warning]
    assert mistake.key == f"{key}{place}"
    assert mistake.message.startswith(key)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SCHEDULE, {"type": "linear_with_warmup", "warmup_steps": 5000}),  # steps are not known
        (SCHEDULE, {"type": "warmup_cosine", "warmup_steps": 5000}),
        (SCHEDULE, {"type": "slanted_triangular"}),
        (SCHEDULE, {"type": "cosine", "t_initial": 2, "eta_mul": 0.5}),
        (
            SCHEDULE,
            {
                "type": "combined",
                "schedulers": [[1, "constant"], [2, {"type": "step", "step_size": 1}]],
            },
        ),
        (SCHEDULE, {"type": "reduce_on_plateau"}),
        (SCHEDULE, "one_cycle"),
        ("trainer.optimizer", {"type": "huggingface_adamw", "lr": 0.1}),
        ("trainer.callbacks", ["tensorboard", "freeze", "should_validate_callback"]),
        ("distributed", {"cuda_devices": [0, 1]}),
    ],
    ids=str,
)
def test_what_trains_has_no_mistake(key: str, value: Any) -> None:
    assert find_mistakes(changed(key, value)) == []


def test_a_group_of_parameters_has_its_own_numbers() -> None:
    groups = [[["weight"], {"lr": -1.0}]]
    optimizer = {"type": "sgd", "lr": 0.1, "parameter_groups": groups}
    (mistake,) = find_mistakes(changed("trainer.optimizer", optimizer))
    assert "lr -1.0; expected a finite number, 0 or more" in mistake.message


def test_a_schedule_that_follows_a_metric_needs_validation_data() -> None:
    config = changed(SCHEDULE, {"type": "reduce_on_plateau"})
    del config["validation_data_path"]
    del config["trainer"]["validation_metric"]
    (mistake,) = find_mistakes(config)
    assert (mistake.key, "expected validation_data_path" in mistake.message) == (SCHEDULE, True)


def test_a_learning_rate_of_0_is_warned_of() -> None:
    (mistake,) = find_mistakes(changed("trainer.optimizer", {"type": "sgd", "lr": 0}))
    assert mistake.is_warning
    assert "lr is 0, which trains nothing" in mistake.message


def test_the_numbers_of_a_users_own_part_are_its_own() -> None:
    @LearningRateScheduler.register("backwards", exist_ok=True)
    class Backwards(LearningRateScheduler):
        def __init__(self, optimizer: Any, step_size: int) -> None:
            super().__init__(optimizer)

    assert find_mistakes(changed(SCHEDULE, {"type": "backwards", "step_size": -1})) == []


@pytest.mark.parametrize(
    ("schedule", "place"),
    [
        ({"type": "combined", "schedulers": [3]}, "schedulers.0"),
        ({"type": "combined", "schedulers": [["a", "constant"]]}, "schedulers.0.0"),
        ({"type": "multi_step", "milestones": ["a"]}, "milestones.0"),
    ],
    ids=str,
)
def test_what_is_no_number_is_a_wrong_type(schedule: Any, place: str) -> None:
    (mistake,) = find_mistakes(changed(SCHEDULE, schedule))
    assert (mistake.kind, mistake.key) == ("wrong type", f"{SCHEDULE}.{place}")
