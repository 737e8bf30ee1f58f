"""
AllenNLP's `train`. It finds all mistakes in the config before it reads data, and lets only one run
write to a folder. In distributed training, its processes know every part too.
"""

import argparse
from pathlib import Path

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
    from allencv.catalogue import read_config
    from allencv.models import ImageClassifier
    from allencv.models.from_archive import with_archived_model
    from allencv.training.next_commands import next_commands, resumed_by, train_command
    from allencv.training.train_in_folder import train_in_folder

    folder = Path(args.serialization_dir)
    command = train_command(args.param_path, folder, args.include_package, args.overrides)
    with resumed_by(command, folder):
        model = train_in_folder(
            with_archived_model(read_config(args.param_path, args.overrides)),
            args.serialization_dir,
            recover=args.recover,
            force=args.force,
            node_rank=args.node_rank,
            # New processes of distributed training import only these packages.
            include_package=["allencv.plugin", *args.include_package],
            dry_run=args.dry_run,
            file_friendly_logging=args.file_friendly_logging,
        )
    # In distributed training, the model is in other processes, and None here.
    is_image_model = model is None or isinstance(model, ImageClassifier)
    if is_image_model and args.node_rank == 0 and (folder / "model.tar.gz").exists():
        print("\n".join(next_commands(folder)))
