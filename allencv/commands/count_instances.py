import argparse

from allennlp.commands import count_instances
from allennlp.commands.subcommand import Subcommand

from allencv.commands.checked_config import with_checked_config


@Subcommand.register("count-instances", exist_ok=True)
class CountInstances(count_instances.CountInstances):
    """AllenNLP's `count-instances`, with the config checked first and `--overrides` applied."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=with_checked_config(count_instances.count_instances_from_args))
        return subparser
