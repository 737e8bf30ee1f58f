"""AllenNLP's `build-vocab`, with the config checked first and `--overrides` applied."""

import argparse

from allencv.commands.shared_arguments import (
    add_config,
    add_force,
    add_overrides,
    with_checked_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("output_path", type=str, help="the file to write: a name with .tar.gz")
    add_force(parser, "replace an existing file")
    add_overrides(parser, "-o", such_as=", such as '{\"vocabulary.min_count.labels\": 10}'")


def run(args: argparse.Namespace) -> None:
    from allennlp.commands.build_vocab import build_vocab_from_args

    with with_checked_config(args):
        build_vocab_from_args(args)
