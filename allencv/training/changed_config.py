"""Compare the config of a recovery with the config that the run was trained with."""

import json
import re
from typing import Any, Dict, Iterator, List, Tuple

from allennlp.common.checks import ConfigurationError

MISSING = object()
Change = Tuple[str, Any, Any]
"""A key in dotted form, its old value, and its new value. `MISSING` means no value."""

MAY_CHANGE = re.compile(
    r"trainer\.("
    r"num_epochs|patience|grad_norm|grad_clipping|log_interval|time_limit|run_confidence_checks"
    r"|use_amp|amp_dtype|grad_scaling|channels_last|cudnn_benchmark|cuda_device"
    r"|compile(\..*)?|checkpointer(\..*)?"
    r"|(learning_rate_scheduler|momentum_scheduler|moving_average|callbacks\.\d+)\.(?!type$).*"
    r")|(validation_)?data_loader\."
    r"(num_workers|worker|prefetch_batches|cache|max_cache_gb)"
)
"""Keys that a checkpoint does not depend on, or that are set again after loading it."""
OPTIMIZER = re.compile(
    r"trainer\.optimizer\.(?!(type|parameter_groups|layer_decay|weight_decay_on_norm_and_bias)\b).*"
)
"""Keys of the optimizer that leave its parameter groups as they are."""
OF_IMAGES_PER_STEP = re.compile(
    r"distributed(\.(?!ddp_accelerator\b).*)?"
    r"|data_loader\.batch_size|trainer\.num_gradient_accumulation_steps"
)
"""Keys that may change if a step has as many images as before, by all processes together."""
OF_SCHEDULE = re.compile(r"trainer\.(num_epochs|optimizer\..*|learning_rate_scheduler\..*)")
"""Keys that AllenNLP's "combined" schedule keeps in a state that cannot be updated."""


def check_changes(
    then: Dict[str, Any], now: Dict[str, Any], folder: str, processes_known: bool = True
) -> List[str]:
    """
    Compare the config of a run with a new one, and return a line for each change.

    With `torchrun` the configs do not say how many processes there are. Without `processes_known`,
    the trainer compares the images per step when it loads the checkpoint.

    # Raises

    `ConfigurationError` with all keys and both values, if a change does not fit the checkpoint,
    whose weights and place in the data depend on the old config.
    """
    changes = list(find_changes(then, now))
    has_same_steps = not processes_known or images_per_step(then) == images_per_step(now)
    scheduler = now.get("trainer", {}).get("learning_rate_scheduler")
    is_combined = isinstance(scheduler, dict) and scheduler.get("type") == "combined"
    refused = [
        change
        for change in changes
        if not (_may_change(change) or (has_same_steps and OF_IMAGES_PER_STEP.fullmatch(change[0])))
        or (is_combined and OF_SCHEDULE.fullmatch(change[0]))
    ]
    if refused:
        steps = ""
        if any(OF_IMAGES_PER_STEP.fullmatch(key) for key, *_ in refused) and not has_same_steps:
            before, after = images_per_step(then), images_per_step(now)
            steps = f" (a step had {before} images, and would have {after})"
        raise ConfigurationError(
            f"the run in {folder} cannot be resumed with another config: {_listed(refused)}{steps};"
            " change this back, or train in another folder"
        )
    return [_listed([change]) for change in changes]


def images_per_step(config: Dict[str, Any]) -> int:
    """Return how many images a step has, if the processes are those of the config."""
    distributed = config.get("distributed") or {}
    processes = len(distributed.get("cuda_devices") or [-1]) * distributed.get("num_nodes", 1)
    accumulated = config.get("trainer", {}).get("num_gradient_accumulation_steps", 1)
    return config.get("data_loader", {}).get("batch_size", 32) * accumulated * processes


def find_changes(then: Any, now: Any, key: str = "") -> Iterator[Change]:
    """Find the keys at which two configs differ, as deep as both have the same structure."""
    if isinstance(then, dict) and isinstance(now, str):
        now = {"type": now}  # means the same
    if isinstance(then, str) and isinstance(now, dict):
        then = {"type": then}
    prefix = f"{key}." if key else ""
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*then, *(name for name in now if name not in then)]:
            yield from find_changes(
                then.get(name, MISSING), now.get(name, MISSING), f"{prefix}{name}"
            )
    elif _are_objects(then) and _are_objects(now) and len(then) == len(now):
        for index, pair in enumerate(zip(then, now)):
            yield from find_changes(*pair, f"{prefix}{index}")
    elif then != now:
        yield key, then, now


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def _may_change(change: Change) -> bool:
    key, then, now = change
    if OPTIMIZER.fullmatch(key):
        return _is_numeric(then) and _is_numeric(now)
    return MAY_CHANGE.fullmatch(key) is not None


def _is_numeric(value: Any) -> bool:
    """Return whether a value is a number or a list of numbers, but not a boolean."""
    if isinstance(value, list):
        return all(map(_is_numeric, value))
    return value is MISSING or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _listed(changes: List[Change]) -> str:
    return ", ".join(
        f"{key} is {shown_value(now)} (was {shown_value(then)})" for key, then, now in changes
    )


def shown_value(value: Any) -> str:
    """Return a value of a config as JSON, cut off if it is long."""
    if value is MISSING:
        return "unset"
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
