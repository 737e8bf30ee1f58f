import argparse

from allennlp.commands import train
from allennlp.commands.subcommand import Subcommand


@Subcommand.register("train", exist_ok=True)
class Train(train.Train):
    """AllenNLP's `train`, whose processes know every part in distributed training too."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=_train)
        return subparser


def _train(args: argparse.Namespace) -> None:
    # They are new processes, which import what they are told to and nothing else.
    args.include_package = ["allencv.plugin", *args.include_package]
    train.train_model_from_args(args)
