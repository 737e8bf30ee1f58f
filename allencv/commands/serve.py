import argparse
from typing import Any

from allennlp.commands.subcommand import Subcommand

from allencv.commands.shared_arguments import add_command, refuse_engine


@Subcommand.register("serve")
class Serve(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        from allencv.serving.command import add_arguments

        subparser = add_command(parser, self.name)
        add_arguments(subparser)
        subparser.set_defaults(func=_serve)
        return subparser


def _serve(args: argparse.Namespace) -> None:
    from allencv.runtime.bundle import is_bundle
    from allencv.serving.command import open_bundle_model, run

    run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_archive(args: argparse.Namespace) -> Any:
    import torch

    from allencv.predictors.archive_classifier import ArchiveClassifier

    refuse_engine(args)
    torch.set_num_threads(1)  # each worker uses one core
    return ArchiveClassifier(args.model, args.device, args.trust_archive)
