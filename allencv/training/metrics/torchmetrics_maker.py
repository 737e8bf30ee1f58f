from typing import Any, Dict, Iterable, Optional

import torch
import torchmetrics
from allennlp.common.checks import ConfigurationError

from allencv.common.nearest_names import not_one_of
from allencv.training.metrics.torchmetrics_arguments import (
    NUMBER_OF_CLASSES,
    as_torchmetrics_takes_it,
    parameters_of,
    signature_of,
    task_classes,
)

# Their macro average is the mean over the classes, here over those that have images.
_MEANS_OVER_CLASSES = frozenset(
    [
        *("Accuracy", "AUROC", "AveragePrecision", "F1Score", "FBetaScore", "HammingDistance"),
        *("JaccardIndex", "LogAUC", "NegativePredictiveValue", "Precision", "Recall"),
        "Specificity",
    ]
)
# They compare the images of a class with the others, so that they need both.
_NEED_OTHER_IMAGES = frozenset(["AUROC", "LogAUC", "Specificity"])
# Where they are not defined for a class, torchmetrics gives 0 and not NaN.
_RANKINGS = frozenset(["AUROC", "LogAUC"])
_MORE_THAN_ANY_TOP_K = 10**6
# `get_metric` decides when to combine the processes and compute.
_AS_GET_METRIC_SAYS = {"sync_on_compute": False, "compute_with_cache": False}


class TorchmetricsMaker:
    """
    Makes one of torchmetrics' metrics with the arguments of a config, when the task and the number
    of classes are known.

    # Parameters

    name : `str`
        The registered name, for messages: "f1_score".
    torchmetrics_name : `str`
        Without the task: "F1Score".
    tasks : `Iterable[str]`
        The tasks that the metric is for: "multiclass", "multilabel".
    arguments : `Dict[str, Any]`
        As in a config.

    # Raises

    `ConfigurationError` for arguments that fit none of the tasks.
    """

    def __init__(
        self, name: str, torchmetrics_name: str, tasks: Iterable[str], arguments: Dict[str, Any]
    ) -> None:
        self._name = name
        self._torchmetrics_name = torchmetrics_name
        classes = task_classes(torchmetrics_name)
        self.classes = {task: classes[task] for task in tasks if task in classes}
        self._parameters = dict(signature_of(torchmetrics_name).parameters)
        for key, parameter in self._parameters.items():
            if parameter.default is parameter.empty and key not in arguments:
                raise ConfigurationError(f"{name} lacks {key!r}; expected a number")
        for key in arguments:
            if key not in self._parameters:
                raise not_one_of(f"an argument of {name}", key, self._parameters)
        self._arguments = {
            key: as_torchmetrics_takes_it(key, value) for key, value in arguments.items()
        }
        self._check_arguments()

    @property
    def is_mean_over_classes(self) -> bool:
        """Whether the result is a mean over classes. `make` then leaves that mean out."""
        return self._average() == "macro" and self._torchmetrics_name in _MEANS_OVER_CLASSES

    @property
    def needs_other_images(self) -> bool:
        """Whether a class must lack some of the images for the metric to be defined."""
        return self._torchmetrics_name in _NEED_OTHER_IMAGES

    def make(self, task: str, num_classes: int) -> torchmetrics.Metric:
        """Make the metric of a task."""
        if task not in self.classes:
            expected = " or ".join(self.classes)
            raise ConfigurationError(f"{self._name} got {task} labels; expected {expected} ones")
        parameters = parameters_of(self.classes[task])
        for key in self._arguments:
            if key not in parameters:
                raise not_one_of(f"an argument of {self._name} for {task} labels", key, parameters)
        top_k = self._arguments.get("top_k", 1)  # which torchmetrics does not check
        if not isinstance(top_k, int) or top_k < 1:
            raise ConfigurationError(f"{self._name}.top_k is {top_k!r}; expected at least 1")
        arguments = {
            key: self._arguments.get(key, self._parameters[key].default) for key in parameters
        }
        arguments[NUMBER_OF_CLASSES[task]] = num_classes
        if self.is_mean_over_classes:
            arguments["average"] = None
        try:
            return self.classes[task](**arguments, **_AS_GET_METRIC_SAYS)
        except Exception as error:  # whatever torchmetrics raises, its arguments are the reason
            raise ConfigurationError(
                f"{self._name} cannot be made with {self._arguments} for {task} labels: "
                f"{type(error).__name__}: {error}"
            ) from error

    def make_stat_scores(self, task: str, num_classes: int) -> Optional[torchmetrics.Metric]:
        """Make the count of images of each class, if a class without images matters."""
        is_one_each = self._average() in (None, "none") and self._torchmetrics_name in _RANKINGS
        if not self.is_mean_over_classes and not is_one_each:
            return None
        arguments = {NUMBER_OF_CLASSES[task]: num_classes, **_AS_GET_METRIC_SAYS}
        ignored = self._arguments.get("ignore_index")
        return task_classes("StatScores")[task](average=None, ignore_index=ignored, **arguments)

    def _average(self) -> Optional[str]:
        """Return what torchmetrics averages over, if the metric has that argument."""
        if "average" not in self._parameters:
            return None
        return self._arguments.get("average", self._parameters["average"].default)

    def _check_arguments(self) -> None:
        """Refuse arguments that fit neither task, before reading images."""
        unknown = {
            task: len(self._arguments.keys() - parameters_of(self.classes[task]))
            for task in self.classes
        }
        errors = []
        for task in sorted(self.classes, key=unknown.__getitem__):  # the likely one first
            try:
                with torch.device("meta"):  # where counts take no memory
                    self.make(task, _MORE_THAN_ANY_TOP_K)
                return
            except ConfigurationError as error:
                errors.append(error)
        raise errors[0]
