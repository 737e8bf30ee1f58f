from typing import List, Optional

import torch
from allennlp.common.checks import ConfigurationError
from torch.nn.modules.batchnorm import _BatchNorm

from allencv.common.nearest_names import not_one_of


def freeze(
    module: torch.nn.Module,
    requires_grad: bool,
    trainable_layers: Optional[List[str]],
    train_bn: bool = True,
) -> None:
    """
    Make only the parameters under `trainable_layers` trainable; `None` means all if
    `requires_grad`, else none. A layer is the name of a submodule or a parameter, such as "layer4"
    or "blocks.11.mlp". Without `train_bn`, batch normalisation is not trainable. Raises
    `ConfigurationError` for a name without parameters, or if both arguments contradict each other.
    """
    if trainable_layers and not requires_grad:
        raise ConfigurationError(
            f"trainable_layers is {trainable_layers}, but requires_grad is false; expected only "
            "one of the two keys"
        )
    names = [name for name, _ in module.named_parameters()]
    for layer in trainable_layers or []:
        if not any(_holds(layer, name) for name in names):
            layers = {name.split(".")[0] for name in names}
            raise not_one_of("a name in trainable_layers", layer, layers)
    for name, parameter in module.named_parameters():
        trained = requires_grad
        if trainable_layers is not None:
            trained = any(_holds(layer, name) for layer in trainable_layers)
        parameter.requires_grad_(trained)
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not train_bn:
            part.requires_grad_(False)


def stop_frozen_batch_norm(module: torch.nn.Module) -> None:
    """
    Put every batch normalisation in `module` whose weight does not require gradients into
    evaluation mode: it uses its running statistics and does not change them.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and part.affine and not part.weight.requires_grad:
            part.eval()


def _holds(layer: str, name: str) -> bool:
    return name == layer or name.startswith(layer + ".")
