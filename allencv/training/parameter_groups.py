import logging
from fnmatch import fnmatch
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

import torch
from allennlp.common.checks import ConfigurationError

from allencv.runtime.plurals import numbered
from allencv.training.protocols import StagedModel

logger = logging.getLogger(__name__)


def split_parameter_groups(
    groups: List[Dict[str, Any]],
    model: torch.nn.Module,
    lr: Optional[float],
    weight_decay_on_norm_and_bias: bool = True,
    layer_decay: Optional[float] = None,
) -> List[Dict[str, Any]]:
    """
    Split the parameter groups of an optimizer by two rules, which hold inside each group:

    * Without `weight_decay_on_norm_and_bias` the parameters named by `without_weight_decay` have a
      weight decay of 0.
    * With `layer_decay` the learning rate falls from the head to the input: that of a stage of the
      model is multiplied by `layer_decay ** (num_stages - 1 - stage)`, and the last stage, the
      head, keeps it. From BEiT (Bao et al. 2021, https://arxiv.org/abs/2106.08254). The stages of a
      timm network are timm's coarse layers; timm's own layer decay has one for each block.

    # Parameters

    groups : `List[Dict[str, Any]]`
        The groups for a torch optimizer: "params", and values that differ from its arguments.
    model : `torch.nn.Module`
        Has the parameters. For `layer_decay` it needs `get_stages()`, which lists the names of
        submodules or parameters of each stage, from the input to the head.
    lr : `float`, optional
        The learning rate of a group that has none of its own.

    # Raises

    `ConfigurationError` for a `layer_decay` that is not above 0 and at most 1, a model without
    stages, a parameter in none of them, a group without a learning rate to multiply, or a parameter
    that is not the model's.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    undecayed = set() if weight_decay_on_norm_and_bias else without_weight_decay(model)
    scales: List[float] = []
    if layer_decay is not None:
        if not 0 < layer_decay <= 1:
            raise ConfigurationError(
                f"trainer.optimizer.layer_decay is {layer_decay!r}; expected a number above 0 and "
                "at most 1"
            )
        stages = stages_of(model)
        scales = [layer_decay**above for above in reversed(range(len(stages)))]

    split = []
    for group in groups:
        parts: Dict[Tuple[int, bool], Dict[str, Any]] = {}
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is None:
                raise ConfigurationError(
                    f"an optimizer's parameter of shape {tuple(parameter.shape)} is not in "
                    f"{type(model).__name__}; expected parameters of the argument model"
                )
            key = (find_stage(name, stages) if scales else 0, name not in undecayed)
            parts.setdefault(key, {**group, "params": []})["params"].append(parameter)
        for (stage, decayed), part in sorted(parts.items(), key=lambda item: item[0]):
            if scales:
                part["lr"] = scaled(part.get("lr", lr), scales[stage])
            if not decayed:
                part["weight_decay"] = 0.0
            split.append(part)
            _log(len(split), part, (stage, len(scales)) if scales else None, decayed)
    logger.info("%d parameter groups", len(split))
    return split


def without_weight_decay(model: torch.nn.Module) -> Set[str]:
    """
    Return the names of the parameters that weight decay harms: biases, all others of one dimension
    (the scales of norms), and those that a submodule lists in a method `no_weight_decay()`, as
    timm's models do (position embeddings, class tokens). The listed names are relative to the
    submodule, and may have wildcards.
    """
    patterns = []
    for prefix, module in model.named_modules():
        names: Iterable[str] = getattr(module, "no_weight_decay", list)()
        patterns += [f"{prefix}.{name}" if prefix else name for name in names]
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim <= 1
        or name.endswith(".bias")
        or any(fnmatch(name, pattern) for pattern in patterns)
    }


def stages_of(model: torch.nn.Module) -> List[List[str]]:
    """Return the stages of a model, from the input to the head."""
    if not isinstance(model, StagedModel):
        raise ConfigurationError(
            "trainer.optimizer.layer_decay needs the stages of the model, and "
            f"{type(model).__name__} has no get_stages()"
        )
    return model.get_stages()


def find_stage(name: str, stages: List[List[str]]) -> int:
    """Return the index of the stage that has the parameter `name`."""
    for index, prefixes in enumerate(stages):
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes):
            return index
    raise ConfigurationError(
        "trainer.optimizer.layer_decay needs every parameter in a stage of the model; get_stages() "
        f"lacks {name} and has {stages}"
    )


def scaled(lr: Optional[float], scale: float) -> float:
    if lr is None:
        raise ConfigurationError(
            "trainer.optimizer.layer_decay multiplies the learning rate; expected a number for "
            "trainer.optimizer.lr"
        )
    return lr * scale


def _log(
    number: int, group: Dict[str, Any], stage: Optional[Tuple[int, int]], decayed: bool
) -> None:
    parts = [numbered(len(group["params"]), "parameter")]
    if stage is not None:
        parts += [f"stage {stage[0] + 1} of {stage[1]}", f"learning rate {group['lr']:.4g}"]
    if not decayed:
        parts.append("no weight decay")
    logger.info("Parameter group %d: %s", number, ", ".join(parts))
