import argparse
from typing import Any, Tuple

from allencv.classify.arguments import add_arguments
from allencv.commands.shared_arguments import refuse_engine

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> None:
    from allencv.classify.command import open_bundle_model, run
    from allencv.exporting.torch_bundle import is_torch_bundle
    from allencv.runtime.bundle import is_bundle

    if is_torch_bundle(args.model):
        run(args, _open_torch_bundle)
    else:
        run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_torch_bundle(args: argparse.Namespace) -> Tuple[Any, str]:
    from allencv.exporting.torch_bundle import open_torch_bundle
    from allencv.runtime.cpu_count import cpu_count

    classifier = open_torch_bundle(args, args.threads or cpu_count())
    return classifier, classifier.checksum


def _open_archive(args: argparse.Namespace) -> Tuple[Any, str]:
    from allencv.common.included_packages import import_included_packages, import_plugins
    from allencv.predictors.archive_classifier import ArchiveClassifier

    refuse_engine(args)
    if args.on is not None:  # a worker of Ray has imported nothing
        import_plugins()
        packages = ["allencv.plugin", *args.include_package]
        import_included_packages([f"--include-package={name}" for name in packages])
    classifier = ArchiveClassifier(args.model, args.device, args.trust_archive)
    return classifier, classifier.checksum
