import argparse
from typing import Any

from allencv.commands.shared_arguments import refuse_engine
from allencv.serving.command import add_arguments

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> None:
    from allencv.exporting.torch_bundle import is_torch_bundle
    from allencv.runtime.bundle import is_bundle
    from allencv.serving.command import open_bundle_model, run

    if is_torch_bundle(args.model):
        run(args, _open_torch_bundle)
    else:
        run(args, open_bundle_model if is_bundle(args.model) else _open_archive)


def _open_torch_bundle(args: argparse.Namespace) -> Any:
    from allencv.exporting.torch_bundle import open_torch_bundle

    return open_torch_bundle(args, threads=1)  # each worker uses one core


def _open_archive(args: argparse.Namespace) -> Any:
    import torch

    from allencv.predictors.archive_classifier import ArchiveClassifier

    refuse_engine(args)
    torch.set_num_threads(1)  # each worker uses one core
    return ArchiveClassifier(args.model, args.device, args.trust_archive)
