"""What is wrong with a config as a whole, though each of its parts can be built."""

from typing import Any, Dict, Iterator, List, Tuple

from allencv.catalogue.mistakes import Mistake
from allencv.catalogue.parts import Path
from allencv.catalogue.trial_build import MODELS, metric_names
from allencv.data.transforms import ImageTransform
from allencv.training.image_trainer import ImageTrainer
from allencv.training.trainer_checks import wrong_trainer_values

Classes = List[Tuple[Path, type]]
"""The classes that a config names, each with its place."""


def trainer_mistakes(config: Dict[str, Any], classes: Classes) -> Iterator[Mistake]:
    """Finds the values under `trainer` that it would refuse, once the model is built."""
    if not any(path == ("trainer",) and issubclass(cls, ImageTrainer) for path, cls in classes):
        return
    has_validation = config.get("validation_data_path") is not None
    names = None
    if any(path == ("model",) and cls in MODELS for path, cls in classes):
        metrics = [cls for path, cls in classes if path[:2] == ("model", "metrics")]
        names = metric_names(config["model"], metrics)
    for wrong in wrong_trainer_values(config["trainer"], has_validation, names):
        yield Mistake("refused", ("trainer", wrong.key), wrong.message)


def random_validation(config: Dict[str, Any], classes: Classes) -> Iterator[Mistake]:
    """Warns of transforms that change the images of validation at random."""
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
    text = f"{key} transforms the images of validation at random ({types})"
    if not own:
        text = f"there is no validation_dataset_reader, and {text}"
    text += "; expected a validation_dataset_reader with transforms such as 'eval'"
    yield Mistake("random validation", drawing[0], text, is_warning=True)


def untested(config: Dict[str, Any]) -> Iterator[Mistake]:
    """Warns of a test after training that has no data."""
    if config.get("evaluate_on_test") is True and config.get("test_data_path") is None:
        text = "evaluate_on_test is true, but there is no test_data_path, so that nothing is tested"
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
