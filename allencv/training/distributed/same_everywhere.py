"""Check that all ranks train the same: config, versions and data."""

import copy
from importlib.metadata import version
from typing import Any, Dict, List

import torch
import torch.distributed as dist
from allennlp.commands.train import TrainModel
from allennlp.common.checks import ConfigurationError

import allencv
from allencv.training.changed_config import find_changes, shown_value
from allencv.training.protocols import SeekableLoader

SHOWN = 5
"""How many differences an error lists."""


def start_of_run(config: Dict[str, Any]) -> Dict[str, Any]:
    """Return the config, without devices, and the versions of this rank."""
    config = copy.deepcopy(config)
    config.pop("distributed", None)
    config["trainer"].pop("cuda_device", None)
    names = ("allennlp", "torchvision", "timm")
    versions = {"allencv": allencv.__version__, "torch": torch.__version__}
    return {**config, "version": versions | {name: version(name) for name in names}}


def data_of_run(training: TrainModel) -> Dict[str, Any]:
    """Return what identifies the images and labels that this rank has listed."""
    loaders = {
        "train_data_path": getattr(training.trainer, "data_loader", None),
        "validation_data_path": getattr(training.trainer, "_validation_data_loader", None),
        "test_data_path": training.evaluation_data_loader,
    }
    return {
        key: loader.identity()
        for key, loader in loaders.items()
        if isinstance(loader, SeekableLoader)
    }


def check_same(what: str, mine: Dict[str, Any]) -> None:
    """
    Compare a value of all ranks with the first rank's. All ranks must call this.

    # Raises

    `ConfigurationError` with the differences, on all ranks.
    """
    of_ranks: List[Dict[str, Any]] = [{}] * dist.get_world_size()
    dist.all_gather_object(of_ranks, mine)
    for rank, other in enumerate(of_ranks):
        changes = list(find_changes(of_ranks[0], other))
        if changes:
            shown = [
                f"{key} is {shown_value(there)} ({shown_value(first)} on rank 0)"
                for key, first, there in changes[:SHOWN]
            ]
            more = f" and {len(changes) - SHOWN} more" if changes[SHOWN:] else ""
            raise ConfigurationError(
                f"{what} differ between ranks: on rank {rank}, {', '.join(shown)}{more}; "
                "expected the same on all ranks"
            )
