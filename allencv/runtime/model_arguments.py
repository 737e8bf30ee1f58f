"""The arguments of commands that run a bundle or an archive."""

import argparse
from typing import TYPE_CHECKING

from allencv.runtime.defaults import AUTO, DEFAULT_ENGINE, ENGINE_NAMES
from allencv.runtime.errors import InputError

if TYPE_CHECKING:
    from allencv.runtime.onnx_classifier import OnnxClassifier


def add_model_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        choices=[*ENGINE_NAMES, AUTO],
        metavar="ENGINE",
        help="for a bundle: the engine that runs the network: "
        f"{', '.join(ENGINE_NAMES)}, or {AUTO}, "
        f"which measures the available ones and logs its choice (default = {DEFAULT_ENGINE})",
    )
    group.add_argument(
        "--device",
        type=str,
        help="for an archive: cpu, cuda, cuda:1, ... (default = the first GPU, or else the CPU)",
    )
    add_trust_archive(group, of="the archive's config, or the .pt2 file of a bundle,")


def add_trust_archive(
    parser: argparse._ActionsContainer, when: str = "", of: str = "the archive's config"
) -> None:
    """Add the argument `--trust-archive`. Its help begins with `when`, and names the files `of`."""
    parser.add_argument(
        "--trust-archive",
        action="store_true",
        help=f"{when}allow {of} to name any Python code, which then runs",
    )


def open_bundle_of(args: argparse.Namespace, threads: int) -> "OnnxClassifier":
    """Open the bundle `args.model`. Raise `BundleError`, or `InputError` for archives' options."""
    from allencv.runtime.onnx_classifier import OnnxClassifier

    if args.device is not None or args.trust_archive:
        raise InputError(
            f"'{args.model}' is a bundle; --device and --trust-archive are for archives"
        )
    return OnnxClassifier(args.model, args.engine or DEFAULT_ENGINE, threads=threads)
