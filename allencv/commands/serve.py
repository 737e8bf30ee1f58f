import argparse
from typing import Any

from allennlp.commands.subcommand import Subcommand


@Subcommand.register("serve")
class Serve(Subcommand):
    """Serve an archive or a bundle over HTTP, with a web page."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        from allencv.serving.command import DESCRIPTION, add_arguments

        subparser = parser.add_parser(self.name, description=DESCRIPTION, help=DESCRIPTION)
        add_arguments(subparser)
        subparser.set_defaults(func=_serve)
        return subparser


def _serve(args: argparse.Namespace) -> None:
    from allencv.runtime.bundle import is_bundle
    from allencv.serving.command import open_bundle_model, run

    run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_archive(args: argparse.Namespace) -> Any:
    import torch
    from allennlp.common.checks import ConfigurationError

    from allencv.predictors.archive_classifier import ArchiveClassifier

    if args.engine is not None:
        raise ConfigurationError(f"'{args.model}' is an archive; --engine is for bundles")
    torch.set_num_threads(1)  # each worker uses one core
    return ArchiveClassifier(args.model, args.device, args.trust_archive)
