import argparse
from contextlib import ExitStack
from typing import Any, Dict, Optional

from allennlp.commands import diff
from allennlp.commands.subcommand import Subcommand
from allennlp.nn.util import read_state_dict

from allencv.common.archives import opened_archive


@Subcommand.register("diff", exist_ok=True)
class Diff(diff.Diff):
    """
    AllenNLP's `diff`. It unpacks archives like the other commands, and compares integers too, such
    as the number of batches in batch normalisation. AllenNLP compares only floats
    (allennlp/commands/diff.py).
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)

        def compare_opened(args: argparse.Namespace) -> None:
            with ExitStack() as stack:
                args.checkpoint1 = _open(args.checkpoint1, stack)
                args.checkpoint2 = _open(args.checkpoint2, stack)
                _compare(args)

        subparser.set_defaults(func=compare_opened)
        return subparser


def _compare(args: argparse.Namespace) -> None:
    states = [
        _read(args.checkpoint1, args.strip_prefix_1),
        _read(args.checkpoint2, args.strip_prefix_2),
    ]
    for step in diff.checkpoint_diff(*states, args.scale, args.threshold):
        step.display()


def _read(checkpoint: str, strip_prefix: Optional[str]) -> Dict[str, Any]:
    path = diff._get_checkpoint_path(checkpoint)
    state = read_state_dict(path, strip_prefix=strip_prefix, strict=False)
    return {name: value.double() for name, value in state.items()}


def _open(checkpoint: str, stack: ExitStack) -> str:
    """Return the path of the weights of "model.tar.gz", or of "model.tar.gz!FILE"."""
    archive, _, member = checkpoint.partition("!")
    if not archive.endswith(".tar.gz"):
        return checkpoint
    # The archive need not be trusted: nothing is built from its config.
    folder = stack.enter_context(opened_archive(archive, trusted=True))
    return str(folder / (member or "weights.th"))
