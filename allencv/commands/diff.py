"""
AllenNLP's `diff`. It unpacks archives like the other commands, and compares integers too, such as
the number of batches in batch normalisation. AllenNLP compares only floats
(allennlp/commands/diff.py).
"""

import argparse
from contextlib import ExitStack
from typing import Any, Dict, Optional

from allencv.commands.shared_arguments import add_details


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "A line begins with '+' for a parameter that only the second checkpoint has, with '-' for "
        "one that only the first has, and with '!' for one that differs by more than the "
        "threshold: the root of the mean squared difference, times the scale.",
    )
    for number in ("1", "2"):
        parser.add_argument(
            f"checkpoint{number}",
            type=str,
            help="a file of weights, an archive, or a file in an archive: model.tar.gz!weights.th",
        )
    for number in ("1", "2"):
        parser.add_argument(
            f"--strip-prefix-{number}",
            type=str,
            metavar="PREFIX",
            help=f"the beginning to take off the names of parameters of checkpoint{number}",
        )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="the factor of differences (default = 1)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=1e-5,
        help="the largest difference that counts as none (default = 1e-05)",
    )


def run(args: argparse.Namespace) -> None:
    with ExitStack() as stack:
        args.checkpoint1 = _open(args.checkpoint1, stack)
        args.checkpoint2 = _open(args.checkpoint2, stack)
        _compare(args)


def _compare(args: argparse.Namespace) -> None:
    from allennlp.commands.diff import checkpoint_diff

    states = [
        _read(args.checkpoint1, args.strip_prefix_1),
        _read(args.checkpoint2, args.strip_prefix_2),
    ]
    for step in checkpoint_diff(*states, args.scale, args.threshold):
        step.display()


def _read(checkpoint: str, strip_prefix: Optional[str]) -> Dict[str, Any]:
    from allennlp.commands.diff import _get_checkpoint_path
    from allennlp.nn.util import read_state_dict

    path = _get_checkpoint_path(checkpoint)
    state = read_state_dict(path, strip_prefix=strip_prefix, strict=False)
    return {name: value.double() for name, value in state.items()}


def _open(checkpoint: str, stack: ExitStack) -> str:
    """Return the path of the weights of "model.tar.gz", or of "model.tar.gz!FILE"."""
    from allencv.common.archives import opened_archive

    archive, _, member = checkpoint.partition("!")
    if not archive.endswith(".tar.gz"):
        return checkpoint
    # The archive need not be trusted: nothing is built from its config.
    folder = stack.enter_context(opened_archive(archive, trusted=True))
    return str(folder / (member or "weights.th"))
