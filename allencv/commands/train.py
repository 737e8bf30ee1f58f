import argparse

from allennlp.commands import train
from allennlp.commands.subcommand import Subcommand


@Subcommand.register("train", exist_ok=True)
class Train(train.Train):
    """
    AllenNLP's `train`. It finds all mistakes in the config before it reads data, and lets only one
    run write to a folder. In distributed training, its processes know every part too.
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=_train)
        return subparser


def _train(args: argparse.Namespace) -> None:
    from allencv.catalogue import read_config
    from allencv.models.from_archive import with_archived_model
    from allencv.training.train_in_folder import train_in_folder

    train_in_folder(
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
