"""
AllenNLP's `train`. It finds all mistakes in the config before it reads data, and lets only one run
write to a folder. It starts the processes of distributed training, and is one of them there.
"""

import argparse
import os
from contextlib import nullcontext
from pathlib import Path
from typing import List

from allencv.commands.shared_arguments import (
    add_config,
    add_file_friendly_logging,
    add_force,
    add_overrides,
    add_serialization_dir,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_serialization_dir(parser, "the folder to write the model and its training records to")
    parser.add_argument(
        *("-r", "--recover"),
        action="store_true",
        help="resume the interrupted run in the folder, from its last checkpoint",
    )
    add_force(parser, "delete the folder first if it exists")
    add_overrides(parser, "-o")
    parser.add_argument(
        "--node-rank",
        type=int,
        default=0,
        help="in distributed training, the number of this machine, from 0 (default = 0)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="make the vocabulary, show what the data have, and do not train",
    )
    add_file_friendly_logging(parser)


def run(args: argparse.Namespace) -> None:
    from allennlp.common.checks import ConfigurationError

    from allencv.catalogue import read_config
    from allencv.models import ImageClassifier
    from allencv.models.from_archive import with_archived_model
    from allencv.training.distributed.launch import launch
    from allencv.training.distributed.ranks import joined
    from allencv.training.distributed.settings import Distributed
    from allencv.training.next_commands import next_commands, resumed_by, train_command
    from allencv.training.threads import hint_at_fewer_threads
    from allencv.training.train_in_folder import train_in_folder

    folder = Path(args.serialization_dir)
    command = train_command(args.param_path, folder, args.include_package, args.overrides)
    # torchrun has started the processes again after a failure.
    is_again = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    model = None
    with joined() as rank, resumed_by(command, folder) if rank is None else nullcontext():
        params = with_archived_model(read_config(args.param_path, args.overrides))
        if rank is None and params.get("distributed") is not None:
            settings = Distributed.of(params.as_dict(quiet=True))
            launch(settings, args.node_rank, command_of_rank(args))
        elif args.node_rank != 0:
            raise ConfigurationError(
                f"--node-rank is {args.node_rank}, but "
                + ("torchrun numbers" if rank else "the config has no distributed, which describes")
                + " the machines; expected no --node-rank"
            )
        else:
            if rank is None and not args.dry_run:
                hint_at_fewer_threads()
            model = train_in_folder(
                params,
                args.serialization_dir,
                recover=args.recover or is_again,
                force=args.force and not is_again,
                rank=rank,
                dry_run=args.dry_run,
                file_friendly_logging=args.file_friendly_logging,
            )
    # In distributed training, the model is in other processes, and None here.
    is_image_model = model is None or isinstance(model, ImageClassifier)
    is_first = rank is None and args.node_rank == 0
    if is_first and is_image_model and (folder / "model.tar.gz").exists():
        print("\n".join(next_commands(folder)))


def command_of_rank(args: argparse.Namespace) -> List[str]:
    """Return the arguments for each process of distributed training."""
    command = ["train", args.param_path, "--serialization-dir", args.serialization_dir]
    command += [f"--include-package={each}" for each in args.include_package]
    command += ["--overrides", args.overrides] if args.overrides else []
    for name in ("recover", "force", "dry_run", "file_friendly_logging"):
        if getattr(args, name):
            command.append(f"--{name.replace('_', '-')}")
    return command
