import argparse
from typing import Any, Tuple

from allennlp.commands.subcommand import Subcommand

from allencv.commands.shared_arguments import add_command, refuse_engine


@Subcommand.register("classify")
class Classify(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        from allencv.classify.command import add_arguments

        subparser = add_command(parser, self.name)
        add_arguments(subparser)
        subparser.set_defaults(func=_classify)
        return subparser


def _classify(args: argparse.Namespace) -> None:
    from allencv.classify.command import open_bundle_model, run
    from allencv.runtime.bundle import is_bundle

    run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_archive(args: argparse.Namespace) -> Tuple[Any, str]:
    from allencv.predictors.archive_classifier import ArchiveClassifier

    refuse_engine(args)
    classifier = ArchiveClassifier(args.model, args.device, args.trust_archive)
    return classifier, classifier.checksum
