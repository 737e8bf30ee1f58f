import argparse

from allennlp.commands import build_vocab
from allennlp.commands.subcommand import Subcommand

from allencv.commands.checked_config import with_checked_config


@Subcommand.register("build-vocab", exist_ok=True)
class BuildVocab(build_vocab.BuildVocab):
    """AllenNLP's `build-vocab`, with the config checked first and `--overrides` applied."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=with_checked_config(build_vocab.build_vocab_from_args))
        return subparser
