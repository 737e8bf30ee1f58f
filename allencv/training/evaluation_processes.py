"""Evaluate an archive in several processes: started here, or by `torchrun`."""

import argparse
import json
import logging
import os
import pickle
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import torch
import torch.distributed as dist
import torch.multiprocessing
from allennlp.commands.evaluate import evaluate_from_args
from allennlp.common.checks import ConfigurationError
from torch.multiprocessing.spawn import ProcessException

from allencv.common.console import console_to_follow
from allencv.common.included_packages import import_included_packages, import_plugins
from allencv.runtime.errors import InputError


class LaunchedRank(NamedTuple):
    """What a launcher, such as `torchrun`, says about this process."""

    rank: int
    local_rank: int
    """Its number on this machine."""
    on_this_machine: int
    """The number of processes on this machine."""


def launched_rank() -> Optional[LaunchedRank]:
    """Return this process's place if a launcher has started several, from its environment."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2 or "RANK" not in os.environ:
        return None
    rank, world_size = os.environ["RANK"], os.environ["WORLD_SIZE"]
    local_rank = os.environ.get("LOCAL_RANK", rank)
    on_this_machine = os.environ.get("LOCAL_WORLD_SIZE", world_size)
    return LaunchedRank(int(rank), int(local_rank), int(on_this_machine))


def evaluate_on_devices(
    args: argparse.Namespace, devices: List[int], launched: Optional[LaunchedRank]
) -> Dict[str, Any]:
    """
    Run AllenNLP's `evaluate` with the arguments of the command, and return its metrics: as one of
    the processes that were `launched`, or else in a process for each of `devices`.
    """
    if launched is not None:
        args.cuda_device = device_of(launched, devices)
        with in_process_group(args.cuda_device):
            return evaluate_from_args(args)
    if len(devices) > 1:
        return evaluate_in_processes(args, devices)
    (args.cuda_device,) = devices
    return evaluate_from_args(args)


def device_of(place: LaunchedRank, devices: Sequence[int]) -> int:
    """
    Return the device of this process: the one with its number on this machine, or the CPU.

    # Raises

    `InputError` unless there is a device for each process.
    """
    devices = [-1] * place.on_this_machine if list(devices) == [-1] else devices
    if len(devices) != place.on_this_machine:
        raise InputError(
            f"--cuda-device is {','.join(map(str, devices))}, but the launcher has started "
            f"{place.on_this_machine} processes on this machine; expected as many devices, or -1"
        )
    return devices[place.local_rank]


@contextmanager
def in_process_group(device: int, **arguments: Any) -> Iterator[None]:
    """Be a rank of a process group in the block. `arguments` are torch's."""
    if device >= 0:
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device < 0 else "nccl", **arguments)
    if dist.get_rank() > 0:
        logging.getLogger().setLevel(logging.ERROR)  # the first says what happens
    yield
    dist.destroy_process_group()  # after an error, that would end the others first


def evaluate_in_processes(args: argparse.Namespace, devices: List[int]) -> Dict[str, Any]:
    """
    Run AllenNLP's `evaluate` in a process for each device, which share the images, and return its
    metrics. The first writes the files.

    # Raises

    The error of a process, if it is one that a user can correct.
    """
    with TemporaryDirectory(prefix="allencv-") as folder:
        try:
            torch.multiprocessing.spawn(_evaluate, (args, devices, folder), nprocs=len(devices))
        except ProcessException:
            for rank in range(len(devices)):
                with suppress(FileNotFoundError):
                    raise pickle.loads(_error_file(folder, rank).read_bytes()) from None
            raise
        return json.loads(Path(folder, "metrics.json").read_text())


def _evaluate(rank: int, args: argparse.Namespace, devices: List[int], folder: str) -> None:
    """Be one of the processes."""
    os.environ["ALLENNLP_PROCS_PER_NODE"] = str(len(devices))  # they share the cores
    torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    args.cuda_device = devices[rank]
    packages = ["allencv.plugin", *args.include_package]
    meeting = {"init_method": f"file://{folder}/meeting", "world_size": len(devices)}
    try:
        with console_to_follow():
            import_plugins()
            import_included_packages([f"--include-package={each}" for each in packages])
            with in_process_group(args.cuda_device, rank=rank, **meeting):
                metrics = evaluate_from_args(args)
        if rank == 0:
            Path(folder, "metrics.json").write_text(json.dumps(metrics))
    except (ConfigurationError, ValueError, OSError) as error:
        file = _error_file(folder, rank)
        file.with_suffix(".part").write_bytes(pickle.dumps(error))
        file.with_suffix(".part").replace(file)
        raise SystemExit(1) from error


def _error_file(folder: str, rank: int) -> Path:
    return Path(folder, f"error_{rank}.pickle")
