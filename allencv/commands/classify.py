import argparse
from typing import Any, Tuple

from allennlp.commands.subcommand import Subcommand


@Subcommand.register("classify")
class Classify(Subcommand):
    """Classify many images with an archive or a bundle."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        from allencv.classify.command import DESCRIPTION, add_arguments

        subparser = parser.add_parser(self.name, description=DESCRIPTION, help=DESCRIPTION)
        add_arguments(subparser)
        subparser.set_defaults(func=_classify)
        return subparser


def _classify(args: argparse.Namespace) -> None:
    from allencv.classify.command import open_bundle_model, run
    from allencv.runtime.bundle import is_bundle

    run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_archive(args: argparse.Namespace) -> Tuple[Any, str]:
    from allennlp.common.checks import ConfigurationError

    from allencv.predictors.archive_classifier import ArchiveClassifier

    if args.engine is not None:
        raise ConfigurationError(f"'{args.model}' is an archive; --engine is for bundles")
    classifier = ArchiveClassifier(args.model, args.device, args.trust_archive)
    return classifier, classifier.checksum
