"""Open a bundle with a network of `torch.export` for the commands that run models."""

import argparse
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allencv.runtime.errors import InputError

if TYPE_CHECKING:
    from allencv.exporting.torch_classifier import TorchClassifier


def is_torch_bundle(path: str) -> bool:
    """Return whether `path` is a bundle whose network needs torch. Raise `BundleError`."""
    from allencv.runtime.bundle import is_bundle, read_manifest

    return is_bundle(path) and read_manifest(path).format == "torch_export"


def open_torch_bundle(args: argparse.Namespace, threads: int) -> "TorchClassifier":
    """
    Open the bundle `args.model` with torch, on the CPU, with a number of threads for each call.

    # Raises

    `BundleError` if it cannot be opened, or is not trusted, and `InputError` for options of other
    models or without torch.
    """
    for option, value in (("--engine", args.engine), ("--device", args.device)):
        if value is not None:
            raise InputError(
                f"'{args.model}' is a torch_export bundle, which torch runs on the CPU; expected "
                f"no {option}"
            )
    if find_spec("torch") is None:
        from allencv.runtime.installing import install_extra

        raise InputError(
            f"'{args.model}' is a torch_export bundle, which needs torch: {install_extra('train')}"
        )
    import torch

    from allencv.exporting.torch_classifier import TorchClassifier

    torch.set_num_threads(threads)
    return TorchClassifier(args.model, trusted=args.trust_archive)
