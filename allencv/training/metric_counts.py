"""The counts of a model's metrics, as values that a checkpoint can hold."""

from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import torch
import torchmetrics
from allennlp.models import Model
from allennlp.training.metrics import Metric

Counts = Dict[str, Any]

ON_DEVICE = "a tensor on the device"
PLAIN = (type(None), bool, int, float, str)


class KeepsCounts:
    """
    The base of metrics and other counters of a model that return their counts. It is a class of its
    own, because other attributes of a network have methods of these names, such as layers.
    """

    def state_dict(self) -> Counts:
        raise NotImplementedError

    def load_state_dict(self, state_dict: Counts) -> None:
        raise NotImplementedError


Counted = Union[torchmetrics.Metric, Metric, KeepsCounts]


class NotPlainError(Exception):
    """A value is not a tensor, a number, text, or a collection of these."""


def save_counts(model: Model) -> Dict[str, Optional[Counts]]:
    """
    Return the counts of each metric of `model` since its last reset, by the metric's place.

    A metric is a module, an attribute of a module, or a member of a list or dictionary that is one.
    A `KeepsCounts` returns its counts; those of other metrics are all attributes. `None` means that
    a checkpoint cannot hold an attribute of the metric.
    """
    return {place: _counts_of(metric) for place, metric in _metrics_in(model)}


def restore_counts(
    model: Model, saved: Dict[str, Optional[Counts]], device: torch.device
) -> List[str]:
    """
    Restore what `save_counts` returned in the metrics of `model`. Tensors that were on an
    accelerator are moved to `device`. Return the places of the metrics whose counts are unknown.
    """
    unknown = []
    for place, metric in _metrics_in(model):
        counts = saved.get(place)
        if counts is None:
            unknown.append(place)
            continue
        counts = _from_plain(counts, device)
        if isinstance(metric, torchmetrics.Metric):
            load_torchmetrics_counts(metric, counts)
        elif isinstance(metric, KeepsCounts):
            metric.load_state_dict(counts)
        else:
            for name, value in counts.items():
                current = getattr(metric, name, None)
                if isinstance(current, dict):  # keep its type, such as defaultdict
                    current.clear()
                    current.update(value)
                else:
                    setattr(metric, name, value)
    return unknown


def torchmetrics_counts(metric: torchmetrics.Metric) -> Counts:
    """Return the counts of a torchmetrics metric. Its own `state_dict()` leaves them out."""
    return {**metric.metric_state, "_update_count": metric.update_count}


def load_torchmetrics_counts(metric: torchmetrics.Metric, counts: Counts) -> None:
    """Restore what `torchmetrics_counts` returned."""
    for name, value in counts.items():
        setattr(metric, name, value)


def _metrics_in(model: Model) -> Iterator[Tuple[str, Counted]]:
    for name, module in model.named_modules():
        if isinstance(module, torchmetrics.Metric):
            yield name, module
            continue
        for attribute, value in vars(module).items():
            place = f"{name}.{attribute}".lstrip(".")
            members = {place: value}
            if isinstance(value, dict):
                members = {f"{place}.{key}": each for key, each in value.items()}
            elif isinstance(value, (list, tuple)):
                members = {f"{place}.{index}": each for index, each in enumerate(value)}
            for key, each in members.items():
                is_module = isinstance(each, torch.nn.Module)
                if isinstance(each, (Metric, KeepsCounts)) and not is_module:
                    yield key, each


def _counts_of(metric: Counted) -> Optional[Counts]:
    if isinstance(metric, torchmetrics.Metric):
        counts = torchmetrics_counts(metric)
    else:
        counts = metric.state_dict() if isinstance(metric, KeepsCounts) else vars(metric)
    try:
        return _to_plain(counts)
    except NotPlainError:
        return None


def _to_plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        on_cpu = value.detach().cpu()
        return on_cpu if value.device.type == "cpu" else (ON_DEVICE, on_cpu)
    if type(value) in PLAIN:
        return value
    if isinstance(value, dict) and all(type(key) in PLAIN for key in value):
        return {key: _to_plain(each) for key, each in value.items()}
    if type(value) in (list, tuple, set):
        return type(value)(map(_to_plain, value))
    raise NotPlainError(type(value).__name__)


def _from_plain(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _from_plain(each, device) for key, each in value.items()}
    if (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[0], str)
        and value[0] == ON_DEVICE
    ):
        return value[1].to(device)
    if isinstance(value, (list, tuple, set)):
        return type(value)(_from_plain(each, device) for each in value)
    return value
