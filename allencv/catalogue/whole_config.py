"""Find mistakes in a config as a whole, whose parts can each be built."""

import copy
import re
from functools import partial
from typing import Any, Dict, Iterator, List, Tuple

from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.metric_tracker import MetricTracker
from allennlp.training.momentum_schedulers import MomentumScheduler

from allencv.catalogue.mistakes import Mistake, refused
from allencv.catalogue.parts import Path
from allencv.catalogue.trial_build import MODELS, OF_GROUPS, is_known, metric_names, optimizer_of
from allencv.data.transforms import ImageTransform
from allencv.training.frozen_features import SEVERAL_PROCESSES, FrozenFeatures
from allencv.training.image_trainer import ImageTrainer
from allencv.training.learning_rate_schedulers import ReduceOnPlateauLearningRateScheduler
from allencv.training.schedule_rehearsal import rehearse
from allencv.training.trainer_checks import wrong_trainer_values

Classes = List[Tuple[Path, type]]
"""The classes that a config names, each with its place."""
DEFAULT_EPOCHS = 20
"""The trainer's own default."""
MANY_STEPS = 10**6
"""Stands for the steps of an epoch, which depend on the data."""


def trainer_mistakes(config: Dict[str, Any], classes: Classes) -> Iterator[Mistake]:
    """Find values under `trainer` that it would refuse once the model is built."""
    if not any(path == ("trainer",) and issubclass(cls, ImageTrainer) for path, cls in classes):
        return
    has_validation = config.get("validation_data_path") is not None
    names = None
    if any(path == ("model",) and cls in MODELS for path, cls in classes):
        metrics = [cls for path, cls in classes if path[:2] == ("model", "metrics")]
        names = metric_names(config["model"], metrics)
    for wrong in wrong_trainer_values(config["trainer"], has_validation, names):
        yield Mistake("refused", ("trainer", wrong.key), wrong.message)
    if (features := config["trainer"].get("frozen_features")) is not None:
        yield from _frozen_features_mistakes(features, bool(config.get("distributed")))


def _frozen_features_mistakes(values: Dict[str, Any], distributed: bool) -> Iterator[Mistake]:
    path = ("trainer", "frozen_features")
    try:
        FrozenFeatures.from_params(Params(copy.deepcopy(values)))
    except ConfigurationError as error:
        yield refused(str(error), values, path)
    if distributed:
        yield Mistake("refused", path, SEVERAL_PROCESSES)


def schedule_mistakes(config: Dict[str, Any], classes: Classes) -> Iterator[Mistake]:
    """Find schedulers under `trainer` that fail before the last epoch."""
    trainer = config.get("trainer") or {}
    num_epochs = trainer.get("num_epochs", DEFAULT_EPOCHS)
    for key, base in (
        ("learning_rate_scheduler", LearningRateScheduler),
        ("momentum_scheduler", MomentumScheduler),
    ):
        named = [cls for path, cls in classes if path[:2] == ("trainer", key)]
        schedule = trainer.get(key)
        schedule = schedule if isinstance(schedule, dict) else {"type": schedule}
        optimizer = optimizer_of(trainer) if named and all(map(is_known, named)) else None
        if optimizer is None or _depends_on_groups(schedule, trainer):
            continue
        given = {}
        if base is LearningRateScheduler:
            given = {"num_epochs": num_epochs, "num_steps_per_epoch": MANY_STEPS}
        try:
            build = partial(Lazy(base, Params(copy.deepcopy(schedule))).construct, **given)
            scheduler = rehearse(
                f"trainer.{key}", schedule, build, optimizer, num_epochs, MANY_STEPS
            )
            if isinstance(scheduler, ReduceOnPlateauLearningRateScheduler):
                metrics = MetricTracker(trainer.get("validation_metric", "-loss"))
                has_validation = config.get("validation_data_path") is not None
                scheduler.check(metrics.tracked_metrics, has_validation)
        except ConfigurationError as error:
            text = str(error)
            if not text.startswith("trainer."):
                text = f"trainer.{'' if text.startswith(f'{key}.') else f'{key}: '}{text}"
            place = re.match(rf"trainer\.{key}(\.\w+)*", text)
            path = place[0].split(".") if place else ["trainer", key]
            yield Mistake("refused", tuple(path), text)


def _depends_on_groups(schedule: Dict[str, Any], trainer: Dict[str, Any]) -> bool:
    """Return whether the schedule depends on parameter groups, and so on the model."""
    optimizer = trainer.get("optimizer", {})
    has_groups = isinstance(optimizer, dict) and not OF_GROUPS.isdisjoint(optimizer)
    asks = schedule.get("gradual_unfreezing") or schedule.get("discriminative_fine_tuning")
    return has_groups and bool(asks or isinstance(schedule.get("min_lr"), list))


def wrong_numbers_of_experiment(config: Dict[str, Any]) -> Iterator[Mistake]:
    """Find impossible numbers at the top of a config, and a learning rate of 0."""
    seed = config.get("numpy_seed")
    if seed is not None and not 0 <= seed < 2**32:
        text = f"numpy_seed is {seed}; expected 0 to 2**32 - 1"
        yield Mistake("refused", ("numpy_seed",), text)
    distributed = config.get("distributed")
    if distributed is not None:
        devices, nodes = distributed.get("cuda_devices"), distributed.get("num_nodes", 1)
        if devices is not None and len(devices) < 2 and nodes < 2:
            text = (
                f"distributed.cuda_devices is {devices}; expected two devices or more, or "
                "distributed.num_nodes above 1, or no distributed"
            )
            yield Mistake("refused", ("distributed", "cuda_devices"), text)
    optimizer = (config.get("trainer") or {}).get("optimizer")
    optimizer = optimizer if isinstance(optimizer, dict) else {}
    if optimizer.get("lr") == 0 and "parameter_groups" not in optimizer:
        text = "trainer.optimizer.lr is 0, which trains nothing; expected a number above 0"
        yield Mistake("refused", ("trainer", "optimizer", "lr"), text, is_warning=True)


def random_validation(config: Dict[str, Any], classes: Classes) -> Iterator[Mistake]:
    """Warn of random transforms of validation images."""
    if all(config.get(f"{split}_data_path") is None for split in ("validation", "test")):
        return
    own = config.get("validation_dataset_reader") is not None
    key = "validation_dataset_reader" if own else "dataset_reader"
    drawing = [
        path
        for path, cls in classes
        if path[0] == key and issubclass(cls, ImageTransform) and cls.is_random
    ]
    if not drawing:
        return
    types = ", ".join(dict.fromkeys(_type_at(path, config) for path in drawing))
    text = f"{key} transforms the validation images at random ({types})"
    if not own:
        text = f"there is no validation_dataset_reader, and {text}"
    text += "; expected a validation_dataset_reader with transforms such as 'eval'"
    yield Mistake("random validation", drawing[0], text, is_warning=True)


def untested(config: Dict[str, Any]) -> Iterator[Mistake]:
    """Warn of a test after training without test data."""
    if config.get("evaluate_on_test") is True and config.get("test_data_path") is None:
        text = "evaluate_on_test is true, but there is no test_data_path, so nothing is tested"
        yield Mistake(
            "no test data",
            ("evaluate_on_test",),
            f"{text}; expected a test_data_path",
            is_warning=True,
        )


def _type_at(path: Path, config: Any) -> str:
    for key in path:
        config = config[key]
    return str(config["type"] if isinstance(config, dict) else config)
