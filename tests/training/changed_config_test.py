from typing import Any, Dict

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import with_overrides

from allencv.training.changed_config import check_changes

CONFIG: Dict[str, Any] = {
    "dataset_reader": {"type": "image_folder", "transforms": [{"type": "eval", "size": 32}]},
    "train_data_path": "train",
    "data_loader": {"type": "image", "batch_size": 4},
    "model": {"type": "basic_image_classifier", "dropout": 0.2},
    "trainer": {
        "type": "image",
        "num_epochs": 3,
        "validation_metric": "-loss",
        "optimizer": {"type": "adamw", "lr": 0.01, "betas": [0.9, 0.999], "amsgrad": False},
        "learning_rate_scheduler": {"type": "warmup_cosine", "warmup_epochs": 1},
        "callbacks": ["write_predictions", {"type": "checkpoint_averaging", "count": 2}],
    },
}


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ({}, []),
        ({"trainer.num_epochs": 3.0}, []),
        ({"trainer.callbacks.0": {"type": "write_predictions"}}, []),
        ({"trainer.num_epochs": 6}, ["trainer.num_epochs is 6 (was 3)"]),
        ({"trainer.optimizer.lr": 1e-3}, ["trainer.optimizer.lr is 0.001 (was 0.01)"]),
        (
            {"trainer.optimizer.betas": [0.8, 0.99]},
            ["trainer.optimizer.betas is [0.8, 0.99] (was [0.9, 0.999])"],
        ),
        (
            {"trainer": {**CONFIG["trainer"], "patience": 5}},
            ["trainer.patience is 5 (was unset)"],
        ),
        (
            {"trainer.learning_rate_scheduler": {"type": "warmup_cosine", "end_factor": 0.1}},
            [
                "trainer.learning_rate_scheduler.warmup_epochs is unset (was 1)",
                "trainer.learning_rate_scheduler.end_factor is 0.1 (was unset)",
            ],
        ),
        (
            {"trainer.callbacks.1": {"type": "checkpoint_averaging", "count": 3}},
            ["trainer.callbacks.1.count is 3 (was 2)"],
        ),
        (
            {"trainer": {**CONFIG["trainer"], "checkpointer": {"save_every_num_batches": 9}}},
            ['trainer.checkpointer is {"save_every_num_batches": 9} (was unset)'],
        ),
        (
            {
                "distributed": {"cuda_devices": [0, 1]},
                "data_loader.batch_size": 2,
            },
            [
                "data_loader.batch_size is 2 (was 4)",
                'distributed is {"cuda_devices": [0, 1]} (was unset)',
            ],
        ),
        (
            {
                "trainer": {**CONFIG["trainer"], "num_gradient_accumulation_steps": 2},
                "data_loader.batch_size": 2,
            },
            [
                "data_loader.batch_size is 2 (was 4)",
                "trainer.num_gradient_accumulation_steps is 2 (was unset)",
            ],
        ),
        (
            {"data_loader": {**CONFIG["data_loader"], "num_workers": 0}},
            ["data_loader.num_workers is 0 (was unset)"],
        ),
        (
            {"data_loader": {**CONFIG["data_loader"], "cache": "memory"}},
            ['data_loader.cache is "memory" (was unset)'],
        ),
        (
            {"data_loader": {**CONFIG["data_loader"], "worker": "thread", "prefetch_batches": 9}},
            [
                'data_loader.worker is "thread" (was unset)',
                "data_loader.prefetch_batches is 9 (was unset)",
            ],
        ),
    ],
    ids=str,
)
def test_what_may_change_is_listed(overrides: Dict[str, Any], lines: "list[str]") -> None:
    assert check_changes(CONFIG, with_overrides(CONFIG, overrides), "run") == lines


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.dropout": 0.5}, "model.dropout is 0.5 (was 0.2)"),
        ({"train_data_path": "other"}, 'train_data_path is "other" (was "train")'),
        (
            {"data_loader.batch_size": 8},
            "data_loader.batch_size is 8 (was 4) (a step had 4 images, and would have 8); change",
        ),
        (
            {"distributed": {"cuda_devices": [-1, -1], "num_nodes": 2}},
            "(was unset) (a step had 4 images, and would have 16); change",
        ),
        ({"dataset_reader.transforms.0.size": 64}, "dataset_reader.transforms.0.size is 64"),
        ({"trainer.validation_metric": "+accuracy"}, '_metric is "+accuracy" (was "-loss")'),
        (
            {"trainer.optimizer": {"type": "sgd", "lr": 0.1}},
            'optimizer.type is "sgd" (was "adamw")',
        ),
        ({"trainer.optimizer.amsgrad": True}, "trainer.optimizer.amsgrad is true (was false)"),
        ({"trainer.learning_rate_scheduler": "one_cycle"}, 'scheduler.type is "one_cycle" (was'),
        ({"trainer.callbacks": ["freeze"]}, 'trainer.callbacks is ["freeze"] (was ["write_pre'),
        ({"trainer.callbacks.1.type": "freeze"}, 'trainer.callbacks.1.type is "freeze"'),
        ({"trainer": {"type": "image"}}, "trainer.validation_metric is unset"),
    ],
    ids=str,
)
def test_what_cannot_change_is_refused_with_both_values(
    overrides: Dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        check_changes(CONFIG, with_overrides(CONFIG, overrides), "runs/a")
    text = str(error.value)
    assert text.startswith("the run in runs/a cannot be resumed with another config: ")
    assert message in text
    assert text.endswith("; change this back, or train in another folder")


def test_images_per_step_are_left_to_the_trainer_with_torchrun() -> None:
    changed = with_overrides(CONFIG, {"data_loader.batch_size": 8})
    lines = check_changes(CONFIG, changed, "run", processes_known=False)
    assert lines == ["data_loader.batch_size is 8 (was 4)"]


def test_all_that_is_refused_is_named_and_nothing_else() -> None:
    changed = {**CONFIG, "random_seed": 3, "model": {}, "trainer": {**CONFIG["trainer"]}}
    changed["trainer"]["patience"] = 3
    with pytest.raises(ConfigurationError) as error:
        check_changes(CONFIG, changed, "run")
    for key in ("random_seed is 3 (was unset)", "model.type is unset", "model.dropout is unset"):
        assert key in str(error.value)
    assert "patience" not in str(error.value)


def test_parameter_groups_stay_as_they_are() -> None:
    for key in ("parameter_groups", "layer_decay", "weight_decay_on_norm_and_bias"):
        changed = {**CONFIG, "trainer": {**CONFIG["trainer"]}}
        changed["trainer"]["optimizer"] = {**CONFIG["trainer"]["optimizer"], key: 0.5}
        with pytest.raises(ConfigurationError, match=f"trainer.optimizer.{key} is 0.5"):
            check_changes(CONFIG, changed, "run")


def test_schedules_in_a_row_keep_their_length() -> None:
    combined = {"type": "combined", "schedulers": [[2, {"type": "constant"}]]}
    trainer = {**CONFIG["trainer"], "learning_rate_scheduler": combined}
    then = {**CONFIG, "trainer": trainer}
    for key, value in (("num_epochs", 6), ("optimizer", {**trainer["optimizer"], "lr": 1.0})):
        with pytest.raises(ConfigurationError, match=f"trainer.{key}"):
            check_changes(then, {**then, "trainer": {**trainer, key: value}}, "run")
    check_changes(then, {**then, "trainer": {**trainer, "patience": 6}}, "run")
