import inspect
import logging
import math
import re
import warnings
from typing import Any, ClassVar, Dict, Iterable, List, Optional, Tuple, Type, Union

import torch
import torch.distributed as dist
import torchmetrics
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import int_to_device, is_distributed
from allennlp.training.metrics.metric import Metric
from torchmetrics import classification
from torchmetrics.utilities import dim_zero_cat

from allencv.common.checks import CheckedFromParams
from allencv.predictions.all_ranks import gathered
from allencv.training.metric_counts import (
    KeepsCounts,
    load_torchmetrics_counts,
    torchmetrics_counts,
)
from allencv.training.metrics.torchmetrics_arguments import (
    NUMBER_OF_CLASSES,
    documentation_of,
    signature_of,
    snake_case,
    task_classes,
)
from allencv.training.metrics.torchmetrics_maker import TorchmetricsMaker

logger = logging.getLogger(__name__)

_CURVES = frozenset(["ROC", "PrecisionRecallCurve"])  # no numbers; their areas have metrics
_IN_A_FILE_OF_THEIR_OWN = frozenset(["ConfusionMatrix", "StatScores"])
_MOST_SCORES_HELD = 2**24  # 64 MiB


class TorchmetricsMetric(CheckedFromParams, Metric, KeepsCounts):
    """
    A classification metric of `torchmetrics`. Each has a subclass of this, with its name in Python
    and the same in snake case in a config: `CalibrationError` is registered as a `Metric` with name
    "calibration_error". The curves `ROC` and `PrecisionRecallCurve` are not numbers and left out.

    The task and the number of classes come from the first batch. A call keeps the scores on their
    device, without waiting for it. They are counted when `get_metric` reads them, or at 64 MiB.
    Most metrics keep a number for each class, or for each pair of classes. `calibration_error`
    keeps two numbers for each image until it is reset. `auroc`, `average_precision` and others with
    `thresholds` keep all scores if `thresholds` is not set. With `thresholds` they keep counts, and
    treat scores between two neighbouring thresholds as equal. The result is then too low for a
    network whose scores are close to 0 and 1.

    A macro average is the mean over the classes that have images, in every metric. torchmetrics
    itself counts a class without images as 0 in some. `auroc`, `log_auc` and `specificity` compare
    images of a class with others, and also leave out a class that all images have. A warning says
    how many classes count and which are left out. If none counts, the average is NaN.

    # Parameters

    torchmetrics' own, with the defaults of its class for all tasks; `help(F1Score)` shows them. A
    `ConfigurationError` is raised for an argument that is unknown, that torchmetrics refuses, or
    that the task lacks, such as `top_k` if images have several labels.
    """

    supports_distributed = True
    torchmetrics_name: ClassVar[str]
    tasks: ClassVar[Iterable[str]] = tuple(NUMBER_OF_CLASSES)
    signature: ClassVar[inspect.Signature]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "torchmetrics_name" not in cls.__dict__:
            return  # a user's subclass of one of ours
        cls.signature = signature_of(cls.torchmetrics_name)
        cls.__doc__ = cls.__doc__ or documentation_of(cls.torchmetrics_name)
        if "__init__" in cls.__dict__:
            return

        # AllenNLP reads the signature of the constructor, so that each class needs its own.
        def __init__(self: TorchmetricsMetric, **arguments: Any) -> None:
            TorchmetricsMetric.__init__(self, **arguments)

        self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [self_parameter, *cls.signature.parameters.values()]
        )
        cls.__init__ = __init__  # type: ignore[method-assign]

    def __init__(self, **arguments: Any) -> None:
        self._name = snake_case(type(self).__name__)
        self._maker = TorchmetricsMaker(self._name, self.torchmetrics_name, self.tasks, arguments)
        self._labels: List[str] = []
        self._left_out: List[str] = []
        self._warned_of: List[str] = []
        self.reset()

    def set_labels(self, names: List[str]) -> None:
        """Set the class names that `get_metric` shows, in the order of the scores."""
        self._labels = list(names)

    def __call__(self, predictions: torch.Tensor, gold_labels: torch.Tensor) -> None:
        """
        # Parameters

        predictions : `torch.Tensor`
            `(batch_size, num_classes)`: logits where an image has one label, else probabilities.
        gold_labels : `torch.Tensor`
            Class numbers of shape `(batch_size,)`; or soft labels: floats of the shape of
            `predictions`, where the largest is the gold label; or, where an image has several
            labels, integers 0 and 1 of the shape of `predictions`.
        """
        predictions, gold_labels = self.detach_tensors(predictions, gold_labels)
        if len(predictions) == 0:
            return
        several = gold_labels.shape == predictions.shape
        if several and gold_labels.is_floating_point():
            gold_labels, several = gold_labels.argmax(-1), False
        one = gold_labels.shape == predictions.shape[:1]
        if predictions.dim() != 2 or not (one or several) or gold_labels.is_floating_point():
            raise ConfigurationError(
                f"{self._name}: gold_labels are {gold_labels.dtype} of shape "
                f"{tuple(gold_labels.shape)} and predictions of shape {tuple(predictions.shape)}; "
                "expected (batch_size,) or (batch_size, num_classes), and (batch_size, num_classes)"
            )
        task = ("multilabel" if several else "multiclass", predictions.size(-1))
        if self._task is None:
            self._start(task, predictions.device)
        elif self._task != task:
            raise ConfigurationError(
                f"{self._name}: a batch is {task[0]} with {task[1]} classes; expected "
                f"{self._task[0]} with {self._task[1]}, as before"
            )
        # torchmetrics would take logits for probabilities where they happen to be in [0, 1].
        scores = predictions.float().clone() if several else predictions.float().softmax(-1)
        self._scores.append(scores)
        self._targets.append(gold_labels.long().clone())
        self._scores_held += scores.numel()
        if self._scores_held >= _MOST_SCORES_HELD:
            self._count()

    def get_metric(self, reset: bool = False) -> Union[float, Dict[str, float]]:
        """
        Return the metric since the last reset, or a dictionary by label if it has a value for each
        label; an empty one before the first prediction. An undefined value is NaN, or what
        torchmetrics puts in its place.

        In distributed training `reset=True` combines the predictions of all processes, so every
        process must call it, even one that has seen no batch. With `reset=False` this is the metric
        of this process alone.
        """
        if reset and is_distributed():
            self._gather()
        value: Union[float, Dict[str, float]] = {}
        if self._metric is not None:
            self._count()
            self._sort_images(self._metric)
            self._left_out = []
            value = self._readable(self._metric.compute())
            if reset:
                self._warn_of_left_out()
        if reset:
            self.reset()
        return value

    def undefined(self) -> Union[float, Dict[str, float]]:
        """Return what `get_metric` gives after some images, with NaN for each number."""
        if self._maker.is_mean_over_classes:
            return math.nan
        num_classes = max(len(self._labels), 2)
        for task in self._maker.classes:
            try:
                metric = self._maker.make(task, num_classes)
            except ConfigurationError:
                continue  # it is for the other task
            scores = torch.full((2, num_classes), 1 / num_classes)
            targets = torch.tensor([0, 1])
            if task == "multilabel":
                targets = torch.eye(num_classes, dtype=torch.long)[:2]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about classes that these two images lack
                metric.update(scores, targets)
                value = self._readable(metric.compute())
            return dict.fromkeys(value, math.nan) if isinstance(value, dict) else math.nan
        return {}

    def reset(self) -> None:
        self._task: Optional[Tuple[str, int]] = None
        self._metric: Optional[torchmetrics.Metric] = None
        self._stat_scores: Optional[torchmetrics.Metric] = None
        self._hold([], [])

    def state_dict(self) -> Dict[str, Any]:
        """Return what has been counted since the last reset, for a checkpoint."""
        return {
            "task": self._task,
            "counts": None if self._metric is None else torchmetrics_counts(self._metric),
            "class_counts": (
                None if self._stat_scores is None else torchmetrics_counts(self._stat_scores)
            ),
            "scores": list(self._scores),
            "targets": list(self._targets),
        }

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.reset()
        scores, counts = state_dict["scores"], state_dict["counts"]
        self._hold(scores, state_dict["targets"])
        self._scores_held = sum(each.numel() for each in scores)
        if state_dict["task"] is not None:
            tensors = [each for each in (*scores, *counts.values()) if torch.is_tensor(each)]
            self._start(state_dict["task"], tensors[0].device if tensors else torch.device("cpu"))
        if self._metric is not None:
            load_torchmetrics_counts(self._metric, counts)
        class_counts = state_dict.get("class_counts")  # missing in older checkpoints
        if self._stat_scores is not None and class_counts is not None:
            load_torchmetrics_counts(self._stat_scores, class_counts)

    def _readable(self, result: Any) -> Union[float, Dict[str, float]]:
        """Return the result of torchmetrics as a number, or one for each label."""
        if self._stat_scores is not None:
            # Shape: (num_classes, 5); columns 1 and 2 count images of other classes
            stat_scores = self._stat_scores.compute()
            counts = stat_scores[:, 4] > 0
            if self._maker.needs_other_images:
                counts &= stat_scores[:, 1:3].sum(-1) > 0
            if self._maker.is_mean_over_classes:
                return self._mean_over_classes(result, counts)
            result = result.masked_fill(~counts, math.nan)
        if isinstance(result, tuple):  # such as the recall at a precision, and its threshold
            values, thresholds = (self._by_label(part) for part in result)
            return values | {f"{label}_threshold": value for label, value in thresholds.items()}
        return self._by_label(result) if result.dim() > 0 else result.item()

    def _mean_over_classes(self, values: torch.Tensor, counts: torch.Tensor) -> float:
        """Return the mean of `values` `(num_classes,)` of the classes that count, or NaN."""
        names = self._names(len(values))
        self._left_out = [
            name for name, is_counted in zip(names, counts.tolist()) if not is_counted
        ]
        return values[counts].cpu().double().mean().item()

    def _warn_of_left_out(self) -> None:
        if self._left_out and self._left_out != self._warned_of:
            self._warned_of = self._left_out
            _, total = self._task or ("", 0)
            logger.warning(
                "%s is the mean over %d of %d classes: no images to judge %s by",
                self._name,
                total - len(self._left_out),
                total,
                ", ".join(map(repr, self._left_out)),
            )

    def _by_label(self, values: torch.Tensor) -> Dict[str, Any]:
        return dict(zip(self._names(len(values)), values.tolist()))

    def _names(self, num_classes: int) -> List[str]:
        return self._labels + [str(index) for index in range(len(self._labels), num_classes)]

    def _start(self, task: Tuple[str, int], device: torch.device) -> None:
        # Counts made in inference mode could not be changed outside it.
        with torch.inference_mode(False), device:
            self._metric = self._maker.make(*task)
            if _sums_floats(self._metric) and device.type != "mps":  # which has no float64
                self._metric.set_dtype(torch.float64)  # for a sum that no order of images changes
            self._stat_scores = self._maker.make_stat_scores(*task)
        self._task = task

    def _hold(self, scores: List[torch.Tensor], targets: List[torch.Tensor]) -> None:
        self._scores, self._targets, self._scores_held = scores, targets, 0

    def _count(self) -> None:
        if self._metric is not None and self._scores:
            with torch.inference_mode(False), torch.no_grad():
                scores, targets = torch.cat(self._scores), torch.cat(self._targets)
                if _sums_floats(self._metric):
                    # The sum over a batch is rounded, and should not depend on other batches.
                    for batch in zip(self._scores, self._targets):
                        self._metric.update(*batch)
                else:
                    self._metric.update(scores, targets)
                if self._stat_scores is not None and len(targets):
                    self._stat_scores.update(scores, targets)
            self._hold([], [])

    @staticmethod
    def _sort_images(metric: torchmetrics.Metric) -> None:
        """Make rounded sums over the images independent of which process has seen which image."""
        if isinstance(metric, classification.MulticlassCalibrationError):
            confidences = dim_zero_cat(metric.confidences)
            order = confidences.argsort()
            metric.confidences = [confidences[order]]
            metric.accuracies = [dim_zero_cat(metric.accuracies)[order]]

    def _gather(self) -> None:
        """Combine the counts of all processes."""
        seen = sorted({task for task in gathered(self._task) if task is not None})
        if len(seen) > 1:
            raise ConfigurationError(
                f"{self._name}: the processes have seen {seen}; expected one task and one number "
                "of classes"
            )
        if seen and self._metric is None:
            gpu = torch.cuda.current_device() if dist.get_backend() == "nccl" else -1
            self._start(seen[0], int_to_device(gpu))
            self._hold_no_image(*seen[0])
        self._count()
        for metric in (self._metric, self._stat_scores):
            if metric is not None:
                metric.sync()

    def _hold_no_image(self, task: str, num_classes: int) -> None:
        """Hold scores of no image: torchmetrics combines only lists of the same shape."""
        metric = self._metric
        if metric is not None and any(isinstance(s, list) for s in metric.metric_state.values()):
            scores = torch.empty(0, num_classes, device=metric.device)
            targets = (scores if task == "multilabel" else scores[:, 0]).long()
            self._hold([scores], [targets])


def _sums_floats(metric: torchmetrics.Metric) -> bool:
    """Return whether a metric adds up rounded numbers of images, and not counts."""
    states = metric.metric_state.values()
    return any(isinstance(each, torch.Tensor) and each.is_floating_point() for each in states)


METRICS: Dict[str, Type[TorchmetricsMetric]] = {}

_names = {re.sub("^Multi(class|label)", "", name) for name in classification.__all__}
for _name in sorted(_names - _CURVES - _IN_A_FILE_OF_THEIR_OWN):
    if task_classes(_name):
        _members = {"torchmetrics_name": _name, "__module__": __name__}
        METRICS[_name] = type(_name, (TorchmetricsMetric,), _members)
        Metric.register(snake_case(_name))(METRICS[_name])


def __getattr__(name: str) -> Type[TorchmetricsMetric]:
    """Find a metric by its name, for `import` and for pickle."""
    if name in METRICS:
        return METRICS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
