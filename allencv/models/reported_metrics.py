"""Turn metrics of any kind into the named numbers that a run reports."""

from collections.abc import Sequence
from contextlib import nullcontext
from numbers import Real
from typing import Any, Callable, ContextManager, Dict, List

import numpy as np
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.metrics import Metric

from allencv.training.acceleration import is_out_of_memory
from allencv.training.metrics import TorchmetricsMetric


def count_batch(
    metrics: Dict[str, Metric], predictions: torch.Tensor, targets: torch.Tensor
) -> None:
    """
    Add a batch to each metric.

    # Raises

    `ConfigurationError` with the key of a metric that cannot be computed from it.
    """
    for key, metric in metrics.items():
        try:
            metric(predictions, targets)
        except Exception as error:  # each metric has its own errors
            if is_out_of_memory(error):
                raise
            raise _not_computed(key, metric, error) from error


def all_reported(
    metrics: Dict[str, Metric],
    labels: List[str],
    has_seen: bool,
    reset: bool,
    around: Callable[[str], ContextManager[None]] = lambda key: nullcontext(),
) -> Dict[str, float]:
    """
    Return the numbers of several metrics by name, as `reported` does for one. The metric under a
    key is read in the `with` block of what `around` returns for the key.

    # Raises

    `ConfigurationError` if two metrics report the same name.
    """
    values: Dict[str, float] = {}
    for key, metric in metrics.items():
        with around(key):
            numbers = reported(key, metric, labels, has_seen, reset)
        taken = sorted(values.keys() & numbers.keys())
        if taken:
            raise ConfigurationError(
                f"model.metrics.{key} reports {taken[0]!r}, as another metric does; expected "
                "another key for one of them"
            )
        values |= numbers
    return values


def reported(
    key: str, metric: Metric, labels: List[str], has_seen: bool, reset: bool
) -> Dict[str, float]:
    """
    Return the numbers of the metric under `model.metrics.{key}` by name: `key` for a single number,
    `{key}_{name}` for those of a dictionary, and for a list or a tensor `{key}_{label}` if there is
    one number for each label, else `{key}_{index}`. Lists in a dictionary are named by both.

    `has_seen` is false if no image has been seen since the last reset. The numbers of
    torchmetrics' metrics are then NaN, and a metric that fails is left out.

    # Raises

    `ConfigurationError` with the key of a metric that fails or does not give numbers.
    """
    try:
        value = metric.get_metric(reset)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if has_seen:
            raise _not_computed(key, metric, error) from error
        return {}
    if isinstance(metric, TorchmetricsMetric) and value == {} and not has_seen:
        value = metric.undefined()
    return _named_numbers(key, f"model.metrics.{key} ({type(metric).__name__})", value, labels)


def _named_numbers(name: str, place: str, value: Any, labels: List[str]) -> Dict[str, float]:
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, Real):
        return {name: float(value)}
    if isinstance(value, dict):
        found: Dict[str, float] = {}
        for part, each in value.items():
            found |= _named_numbers(f"{name}_{part}", place, each, labels)
        return found
    if isinstance(value, Sequence) and all(isinstance(each, Real) for each in value):
        names = labels if len(value) == len(labels) else range(len(value))
        return {f"{name}_{part}": float(each) for part, each in zip(names, value)}
    raise ConfigurationError(
        f"{place} gives {str(value)[:60]!r} of the type {type(value).__name__}; expected a number, "
        "or a list, a tensor of one dimension, or a dictionary of numbers"
    )


def _not_computed(key: str, metric: Metric, error: Exception) -> ConfigurationError:
    """Return an error that names the metric that raised `error`."""
    said = " ".join(str(error).split()) or "without a message"
    return ConfigurationError(
        f"model.metrics.{key} ({type(metric).__name__}) cannot be computed for this model: "
        f"{type(error).__name__}: {said}"
    )
