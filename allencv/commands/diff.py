import argparse
from contextlib import ExitStack
from typing import Any, Callable

from allennlp.commands import diff
from allennlp.commands.subcommand import Subcommand

from allencv.common.archives import opened_archive


@Subcommand.register("diff", exist_ok=True)
class Diff(diff.Diff):
    """AllenNLP's `diff`, which unpacks archives as the other commands do."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        compare: Callable[[argparse.Namespace], Any] = subparser.get_default("func")

        def compare_opened(args: argparse.Namespace) -> None:
            with ExitStack() as stack:
                args.checkpoint1 = _open(args.checkpoint1, stack)
                args.checkpoint2 = _open(args.checkpoint2, stack)
                compare(args)

        subparser.set_defaults(func=compare_opened)
        return subparser


def _open(checkpoint: str, stack: ExitStack) -> str:
    """The path of the weights: "model.tar.gz", or "model.tar.gz!FILE" for another file in it."""
    archive, _, member = checkpoint.partition("!")
    if not archive.endswith(".tar.gz"):
        return checkpoint
    # Nothing is built from the config, so it may name anything.
    folder = stack.enter_context(opened_archive(archive, trusted=True))
    return str(folder / (member or "weights.th"))
