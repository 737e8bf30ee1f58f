"""Bounds of numbers that AllenNLP's parts take but do not check."""

import itertools
from typing import Any, Callable, Dict, Iterator, List, Tuple

from allencv.catalogue.mistakes import Mistake, name_of
from allencv.catalogue.parts import Path

Bound = Tuple[Callable[[Any], bool], str]

AT_LEAST_ONE: Bound = (lambda value: value >= 1, "1 or more")
AT_LEAST_ZERO: Bound = (lambda value: value >= 0, "0 or more")
ABOVE_ZERO: Bound = (lambda value: value > 0, "a number above 0")
A_PART: Bound = (lambda value: 0 <= value <= 1, "a number from 0 to 1")
BOUNDS: Dict[str, Dict[str, Bound]] = {
    "allennlp.training.learning_rate_schedulers": {
        **dict.fromkeys(("step_size", "t_initial", "num_training_steps"), AT_LEAST_ONE),
        **dict.fromkeys(("num_epochs", "num_steps_per_epoch", "model_size"), AT_LEAST_ONE),
        **dict.fromkeys(("num_warmup_steps", "eta_min", "eta_mul"), AT_LEAST_ZERO),
        **dict.fromkeys(("end_learning_rate", "gamma", "power"), AT_LEAST_ZERO),
        **dict.fromkeys(("t_mul", "factor", "ratio", "decay_factor", "num_cycles"), ABOVE_ZERO),
        "warmup_steps": AT_LEAST_ZERO,
        "cut_frac": A_PART,
        "last_epoch": (lambda value: value == -1, "-1, as --recover continues a schedule"),
    },
    "allennlp.training.learning_rate_schedulers.noam": {"warmup_steps": AT_LEAST_ONE},
    "allennlp.training.momentum_schedulers": {
        **dict.fromkeys(("cool_down", "warm_up"), AT_LEAST_ZERO),
        "ratio": ABOVE_ZERO,
    },
    "allennlp.training.optimizers": {
        **dict.fromkeys(("lr", "eps", "weight_decay", "warmup_init"), AT_LEAST_ZERO),
    },
    "allennlp.training.callbacks": {
        **dict.fromkeys(("summary_interval", "distribution_interval"), AT_LEAST_ONE),
        **dict.fromkeys(("batch_size_interval", "validation_interval"), AT_LEAST_ONE),
        "validation_start": AT_LEAST_ZERO,
        "batch_loss_moving_average_count": AT_LEAST_ONE,
    },
    "allennlp.data": {
        **dict.fromkeys(("batch_size", "batches_per_epoch", "max_tokens"), AT_LEAST_ONE),
        **dict.fromkeys(("max_instances_in_memory", "instances_per_epoch"), AT_LEAST_ONE),
        **dict.fromkeys(("num_workers", "padding_noise"), AT_LEAST_ZERO),
    },
}
"""The bounds of arguments, by the beginning of their module's name."""


def wrong_numbers(value: Any, cls: type, path: Path) -> Iterator[Mistake]:
    """Find the numbers under `path` that the class there cannot use."""
    if not isinstance(value, dict):
        return
    bounds: Dict[str, Bound] = {}
    for module, more in BOUNDS.items():
        if f"{cls.__module__}.".startswith(f"{module}."):
            bounds |= more
    for key, (is_right, expected) in bounds.items():
        number = value.get(key)
        is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
        if is_number and not is_right(number):
            yield _refused((*path, key), number, expected)
    if not bounds:
        return
    most, size = value.get("max_instances_in_memory"), value.get("batch_size")
    if isinstance(most, int) and isinstance(size, int) and 1 <= most < size:
        yield _refused((*path, "max_instances_in_memory"), most, f"{size} or more, the batch_size")
    milestones = value.get("milestones")
    if isinstance(milestones, list) and not _is_rising(milestones):
        yield _refused((*path, "milestones"), milestones, "rising numbers of epochs, 1 or more")
    if isinstance(value.get("schedulers"), list):
        yield from _wrong_lengths(value["schedulers"], (*path, "schedulers"))


def _wrong_lengths(schedulers: List[Any], path: Path) -> Iterator[Mistake]:
    """Find wrong numbers of epochs in the schedules of AllenNLP's "combined"."""
    if not schedulers:
        yield _refused(path, [], "pairs of a number of epochs and a scheduler")
    for index, (epochs, _) in enumerate(schedulers):
        if epochs < 1:
            yield _refused((*path, index, 0), epochs, "1 or more")


def _is_rising(values: List[Any]) -> bool:
    rising = all(first < second for first, second in itertools.pairwise(values))
    return bool(values) and values[0] >= 1 and rising


def _refused(path: Path, value: Any, expected: str) -> Mistake:
    return Mistake("refused", path, f"{name_of(path)} is {value}; expected {expected}")
