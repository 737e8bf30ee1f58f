import argparse

from allennlp.commands import predict
from allennlp.commands.subcommand import Subcommand

from allencv.commands.archive_argument import opens_archive


@Subcommand.register("predict", exist_ok=True)
class Predict(predict.Predict):
    """AllenNLP's `predict`, which runs no code from the archive unless it is trusted."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        return opens_archive(super().add_subparser(parser), predict._predict)
