"""Train the share of one rank."""

import json
import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import torch
import torch.distributed as dist
from allennlp.commands.train import TrainModel
from allennlp.common import Lazy, Params
from allennlp.common import logging as common_logging
from allennlp.common import util as common_util
from allennlp.common.checks import ConfigurationError
from allennlp.common.meta import Meta
from allennlp.models.archival import CONFIG_NAME, META_NAME, verify_include_in_archive
from allennlp.nn.parallel import DdpAccelerator
from allennlp.training import util as training_util

from allencv.common.console import to_log_file_only
from allencv.common.write_archive import archive_model
from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.plurals import numbered
from allencv.training.distributed.ddp_accelerator import ImageDdpAccelerator
from allencv.training.distributed.ranks import START, Rank
from allencv.training.distributed.same_everywhere import check_same, data_of_run, start_of_run
from allencv.training.distributed.settings import Distributed


def train_rank(
    rank: Rank,
    params: Params,
    folder: Path,
    recover: bool = False,
    dry_run: bool = False,
    file_friendly_logging: bool = False,
) -> None:
    """
    Train the share of a rank, and write the results if it is the first.

    The first rank alone writes to the folder, except for a log of each rank. It makes the
    vocabulary and reads checkpoints; the others get both from it. So the machines need not share
    the folder.

    AllenNLP's function for this (`commands/train.py`, `_train_worker`) takes the first process of
    each machine for the one that writes, and has no timeout.

    # Raises

    `ConfigurationError` if the ranks have different configs, data or versions, or devices that do
    not exist.
    """
    common_logging.FILE_FRIENDLY_LOGGING = file_friendly_logging
    config = params.as_dict(quiet=True)
    settings = Distributed.of(config)
    device = device_of_rank(rank, settings, config)
    start = start_of_run(config)
    rank.store.set_timeout(timedelta(seconds=settings.timeout_s))
    vocabulary: Dict[str, str] = {}
    if rank.rank == 0:
        training_util.create_serialization_dir(params, str(folder), recover, force=False)
    else:
        vocabulary = json.loads(rank.store.get(START))
        if vocabulary is None:  # the first rank has failed
            sys.exit(1)
        os.makedirs(folder, exist_ok=True)
    logging.disable(logging.NOTSET)
    common_logging.prepare_global_logging(str(folder), rank.rank, rank.world_size)
    if rank.rank == 0:
        vocabulary = _prepare(params.duplicate(), folder, recover, dry_run)
        rank.store.set(START, json.dumps(vocabulary))
    if dry_run:
        return
    include_in_archive = params.pop("include_in_archive", None)
    params.pop("distributed", None)
    params.pop("evaluation", None)
    common_util.prepare_environment(params)
    params["trainer"]["cuda_device"] = device
    params["trainer"]["local_rank"] = rank.rank  # AllenNLP calls the rank so that writes
    params["trainer"]["world_size"] = rank.world_size
    params["trainer"]["distributed"] = True
    with process_group(rank, device, settings.timeout_s):
        check_same("configs or versions", start)
        training = _build(params, folder, rank, vocabulary, settings, device)
        check_same("the data", data_of_run(training))
        _run(training, folder, include_in_archive)


def device_of_rank(rank: Rank, settings: Distributed, config: Dict[str, Any]) -> int:
    """Return the number of the GPU of a rank, or -1. Raises `ConfigurationError`."""
    if settings.cuda_devices is not None:
        ranks = len(settings.cuda_devices) * settings.num_nodes
        if ranks != rank.world_size:
            raise ConfigurationError(
                f"distributed has {len(settings.cuda_devices)} cuda_devices on each of "
                f"{settings.num_nodes} num_nodes, but WORLD_SIZE is {rank.world_size}; expected "
                f"{ranks} ranks, or no cuda_devices"
            )
        if rank.local_rank >= len(settings.cuda_devices):
            raise ConfigurationError(
                f"LOCAL_RANK is {rank.local_rank}, but distributed.cuda_devices has only "
                f"{numbered(len(settings.cuda_devices), 'device')}; expected one for each process "
                "of a machine"
            )
        settings.check_devices()
        return settings.cuda_devices[rank.local_rank]
    gpus = torch.cuda.device_count()
    if gpus == 0 or config["trainer"].get("cuda_device") == -1:
        return -1
    if rank.local_rank >= gpus:
        raise ConfigurationError(
            f"LOCAL_RANK is {rank.local_rank}, but this machine has {numbered(gpus, 'GPU')}; "
            "expected at most as many processes, or trainer.cuda_device -1 for the CPU"
        )
    return rank.local_rank


@contextmanager
def process_group(rank: Rank, device: int, timeout_s: float) -> Iterator[None]:
    """Connect the ranks for the `with` block."""
    if device >= 0:
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cpu_count() // rank.local_world_size))
    dist.init_process_group(
        "nccl" if device >= 0 else "gloo",
        store=rank.store,
        rank=rank.rank,
        world_size=rank.world_size,
        timeout=timedelta(seconds=timeout_s),
    )
    yield
    dist.destroy_process_group()  # after an error it could wait for other ranks


def _build(
    params: Params,
    folder: Path,
    rank: Rank,
    vocabulary: Dict[str, str],
    settings: Distributed,
    device: int,
) -> TrainModel:
    """Build what the config describes, with the vocabulary of the first rank."""
    accelerator: Optional[DdpAccelerator] = None
    if settings.ddp_accelerator is not None or "ddp_accelerator" not in params["trainer"]:
        lazy = settings.ddp_accelerator or Lazy(ImageDdpAccelerator)
        accelerator = lazy.construct(
            local_rank=rank.rank, world_size=rank.world_size, cuda_device=device
        )
    with tempfile.TemporaryDirectory(prefix="allencv-labels-") as directory:
        for name, text in vocabulary.items():
            (Path(directory) / name).write_text(text, encoding="utf-8")
        given = params.pop("vocabulary", Params({})).as_dict(quiet=True)
        tokens = {key: given[key] for key in ("padding_token", "oov_token") if key in given}
        params["vocabulary"] = {"type": "from_files", "directory": directory, **tokens}
        return TrainModel.from_params(
            params=params,
            serialization_dir=str(folder),
            local_rank=rank.rank,
            ddp_accelerator=accelerator,
        )


def _run(training: TrainModel, folder: Path, include_in_archive: Optional[List[str]]) -> None:
    """Train. The first rank archives the model, also if training is stopped after an epoch."""
    is_first = dist.get_rank() == 0
    try:
        metrics = training.run()
    except (KeyboardInterrupt, common_util.SigTermReceived):
        best = training.trainer.get_best_weights_path()
        if is_first and best is not None:
            archive_model(folder, weights=best, include_in_archive=include_in_archive)
        raise
    if is_first:
        training.finish(metrics)
        archive_model(folder, include_in_archive=include_in_archive)


def _prepare(params: Params, folder: Path, recover: bool, dry_run: bool) -> Dict[str, str]:
    """Write what AllenNLP writes before it trains, and return the files of the vocabulary."""
    params.to_file(str(folder / CONFIG_NAME))
    Meta.new().to_file(str(folder / META_NAME))
    verify_include_in_archive(params.pop("include_in_archive", None))
    vocabulary = folder / "vocabulary"
    if not recover:
        params.pop("distributed", None)
        params.pop("evaluation", None)
        with to_log_file_only():  # it lists the data, as all ranks do next
            training_util.make_vocab_from_params(params, str(folder), print_statistics=dry_run)
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(vocabulary.iterdir())
        if file.suffix == ".txt"
    }
