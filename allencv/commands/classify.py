import argparse
from typing import Any, Tuple

from allencv.classify.arguments import add_arguments
from allencv.commands.shared_arguments import refuse_engine

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> None:
    from allencv.classify.command import open_bundle_model, run
    from allencv.runtime.bundle import is_bundle

    run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_archive(args: argparse.Namespace) -> Tuple[Any, str]:
    from allencv.predictors.archive_classifier import ArchiveClassifier

    refuse_engine(args)
    classifier = ArchiveClassifier(args.model, args.device, args.trust_archive)
    return classifier, classifier.checksum
