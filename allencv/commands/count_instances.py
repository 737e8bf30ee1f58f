"""AllenNLP's `count-instances`, with the config checked first and `--overrides` applied."""

import argparse

from allencv.commands.shared_arguments import add_config, add_overrides, with_checked_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_overrides(parser, "-o", such_as=', such as \'{"train_data_path": "other_photos"}\'')


def run(args: argparse.Namespace) -> None:
    from allennlp.commands.count_instances import count_instances_from_args

    with with_checked_config(args):
        count_instances_from_args(args)
