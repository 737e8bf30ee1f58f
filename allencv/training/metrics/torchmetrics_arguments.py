"""The names and the arguments of torchmetrics' classification metrics."""

import inspect
import re
from typing import Any, Dict, Type

import torchmetrics
from torchmetrics import classification

# Each task has its own class of a metric. The number of classes is an argument of it.
NUMBER_OF_CLASSES = {"multiclass": "num_classes", "multilabel": "num_labels"}
_TASKS = {"multiclass": "one label per image", "multilabel": "several labels per image"}

# Known from the first batch, or useless if an image has one label or one row of labels.
_NOT_IN_A_CONFIG = frozenset(["self", "kwargs", "validate_args", "multidim_average"])


def snake_case(name: str) -> str:
    """Return the registered name of a class: "f1_score" for `F1Score`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def task_classes(name: str) -> Dict[str, Type[torchmetrics.Metric]]:
    """Return the classes by task, for "F1Score" `MulticlassF1Score` and `MultilabelF1Score`."""
    found = {task: getattr(classification, task.capitalize() + name, None) for task in _TASKS}
    return {task: task_class for task, task_class in found.items() if task_class is not None}


def parameters_of(task_class: Type[torchmetrics.Metric]) -> Dict[str, inspect.Parameter]:
    """Return the parameters of a task's class that a config may set."""
    hidden = _NOT_IN_A_CONFIG.union(NUMBER_OF_CLASSES.values())
    parameters = inspect.signature(task_class.__init__).parameters
    return {key: parameter for key, parameter in parameters.items() if key not in hidden}


def signature_of(name: str) -> inspect.Signature:
    """
    Return the arguments for both tasks. The defaults are those of torchmetrics' class for all
    tasks, which users know: `average` is "micro" in `F1Score`, "macro" in `MulticlassF1Score`.
    """
    general = inspect.signature(getattr(classification, name, object).__new__).parameters
    found: Dict[str, inspect.Parameter] = {}
    for task_class in task_classes(name).values():
        for key, parameter in parameters_of(task_class).items():
            # AllenNLP passes values annotated with `Any` unchanged.
            found[key] = inspect.Parameter(
                key,
                inspect.Parameter.KEYWORD_ONLY,
                default=general.get(key, parameter).default,
                annotation=Any,
            )
    return inspect.Signature(list(found.values()))


def documentation_of(name: str) -> str:
    tasks = " or ".join(_TASKS[task] for task in task_classes(name))
    page = f"https://lightning.ai/docs/torchmetrics/stable/classification/{snake_case(name)}.html"
    return f"""torchmetrics' `{name}`, for {tasks}.

Registered as a `Metric` with name "{snake_case(name)}".

# Parameters

torchmetrics' own: {page}
"""


def as_torchmetrics_takes_it(key: str, value: Any) -> Any:
    """Restore floats and tuples, which jsonnet writes as integers and lists."""
    if isinstance(value, int) and not isinstance(value, bool):
        is_float = key in ("beta", "threshold") or key.startswith("min_")
        return float(value) if is_float else value
    if isinstance(value, (list, tuple)):
        floats = [float(item) if isinstance(item, int) else item for item in value]
        return tuple(floats) if key == "fpr_range" else floats
    return value
