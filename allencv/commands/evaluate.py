import argparse

from allennlp.commands import evaluate
from allennlp.commands.subcommand import Subcommand

from allencv.commands.archive_argument import opens_archive


@Subcommand.register("evaluate", exist_ok=True)
class Evaluate(evaluate.Evaluate):
    """AllenNLP's `evaluate`, which runs no code from the archive unless it is trusted."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        return opens_archive(super().add_subparser(parser), evaluate.evaluate_from_args)
