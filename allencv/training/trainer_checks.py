"""Check the trainer's values in a config before any image is read."""

import math
import re
from typing import (
    Any,
    Collection,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    runtime_checkable,
)

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model

from allencv.common.nearest_names import nearest_first
from allencv.runtime.plurals import numbered

HIGHER_IS_BETTER = re.compile(r"(.*_)?(accuracy|f1|f1_score|mAP|auroc|precision|recall)")
LOWER_IS_BETTER = re.compile(r"(.*_)?loss")
AT_LEAST_ONE = ("num_epochs", "patience", "num_gradient_accumulation_steps")
ABOVE_ZERO = ("grad_norm", "grad_clipping")
AT_LEAST_ZERO = ("log_interval",)


class WrongValue(NamedTuple):
    """A wrong value under a key of `trainer`, and what is wrong with it."""

    key: str
    message: str


@runtime_checkable
class NamesMetrics(Protocol):
    """A model that knows its metrics before it has seen an image."""

    def metric_names(self) -> List[str]: ...


def wrong_trainer_values(
    values: Mapping[str, Any],
    has_validation: bool,
    metric_names: Optional[Collection[str]] = None,
) -> Iterator[WrongValue]:
    """
    Find the values that a trainer cannot use.

    # Parameters

    values : `Mapping[str, Any]`
        The keys of `trainer` as the config has them. Keys that are missing or `None`, other keys,
        and values of another type are ignored.
    has_validation : `bool`
        Whether the config has a `validation_data_path`.
    metric_names : `Collection[str]`, optional (default = `None`)
        The metrics of the model, without "loss", in the form of `ImageClassifier.metric_names`: a
        name that ends in "*" stands for all names that begin so. `None` if they are not known.
    """
    for keys, is_right, expected in (
        (AT_LEAST_ONE, lambda value: value >= 1, "1 or more"),
        (ABOVE_ZERO, lambda value: value > 0, "a number above 0"),
        (AT_LEAST_ZERO, lambda value: value >= 0, "0 or more"),
    ):
        for key in keys:
            value = values.get(key)
            if not isinstance(value, (int, float)) or isinstance(value, bool):
                continue
            if math.isnan(value) or not is_right(value):
                yield WrongValue(key, f"trainer.{key} is {value}; expected {expected}")
    for pattern in values.get("no_grad") or []:
        try:
            re.compile(pattern)
        except re.error as error:
            message = f"trainer.no_grad has {pattern!r}; expected a regular expression ({error})"
            yield WrongValue("no_grad", message)
    if values.get("patience") is not None and not has_validation:
        yield WrongValue(
            "patience",
            f"trainer.patience is {values['patience']}, but the config has no "
            "validation_data_path; expected validation data, or no patience",
        )
    metrics = values.get("validation_metric")
    if has_validation and metrics is not None:
        for metric in [metrics] if isinstance(metrics, str) else metrics:
            yield from _wrong_metric(metric, metric_names)
        if not metrics:
            message = f"trainer.validation_metric is {metrics!r}; expected a name such as '-loss'"
            yield WrongValue("validation_metric", message)


def check_trainer_values(
    values: Mapping[str, Any],
    has_validation: bool,
    metric_names: Optional[Collection[str]] = None,
) -> None:
    """
    Refuse values that a trainer cannot use. The arguments are those of `wrong_trainer_values`.

    # Raises

    `ConfigurationError` for the first of them.
    """
    for wrong in wrong_trainer_values(values, has_validation, metric_names):
        raise ConfigurationError(wrong.message)


def check_gpu(number: int) -> None:
    """Raise `ConfigurationError` if `trainer.cuda_device` is a GPU that this machine lacks."""
    count = torch.cuda.device_count()
    if number >= count:
        has = f"has {numbered(count, 'GPU')}, counted from 0" if count else "has no GPU"
        raise ConfigurationError(
            f"trainer.cuda_device is {number}, but this machine {has}; expected the number "
            "of a GPU, or -1 for the CPU"
        )


def _wrong_metric(metric: str, names: Optional[Collection[str]]) -> Iterator[WrongValue]:
    sign, name = metric[:1], metric[1:]
    place = f"trainer.validation_metric is {metric!r}"
    if sign not in ("+", "-"):
        expected = f"'+{metric}' if higher is better, '-{metric}' if lower is better"
        if HIGHER_IS_BETTER.fullmatch(metric):
            expected = f"'+{metric}'"
        elif LOWER_IS_BETTER.fullmatch(metric):
            expected = f"'-{metric}'"
        yield WrongValue("validation_metric", f"{place}, without a sign; expected {expected}")
        return
    if names is not None and not _is_among(name, [*names, "loss"]):
        ordered, _ = nearest_first(name, sorted([*names, "loss"]))
        shown = ", ".join(ordered[:20]) + (", ..." if ordered[20:] else "")
        message = f"{place}, but the model reports no {name!r}; expected one of {shown}"
        yield WrongValue("validation_metric", message)
        return
    for right_sign, pattern in (("+", HIGHER_IS_BETTER), ("-", LOWER_IS_BETTER)):
        if pattern.fullmatch(name) and sign != right_sign:
            better = "higher" if right_sign == "+" else "lower"
            message = f"{place}, but {better} is better; expected '{right_sign}{name}'"
            yield WrongValue("validation_metric", message)


def _is_among(name: str, names: Collection[str]) -> bool:
    return any(name.startswith(each[:-1]) if each.endswith("*") else name == each for each in names)


def metric_names_of(model: Model) -> Optional[List[str]]:
    """
    List the validation metrics of a model, without "loss"; `None` if they cannot be known.

    # Raises

    `ConfigurationError` if one of its metrics does not fit the model.
    """
    if not isinstance(model, NamesMetrics):
        return None
    try:
        return model.metric_names()
    except ConfigurationError:
        raise
    except Exception:  # a metric of the user's own may not take made-up predictions
        return None
