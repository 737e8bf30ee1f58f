"""
AllenNLP's `find-lr` for every trainer, in the trainer's precision. It suggests a learning rate.
AllenNLP's accepts only the trainer "gradient_descent" (allennlp/commands/find_learning_rate.py).
"""

import argparse
from pathlib import Path

from allencv.commands.shared_arguments import (
    add_config,
    add_file_friendly_logging,
    add_force,
    add_overrides,
    add_serialization_dir,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_serialization_dir(parser, "the folder to write lr-losses.png to, a plot of the search")
    add_force(parser, "delete the folder first if it exists")
    add_overrides(parser, "-o", such_as=", such as '{\"data_loader.batch_size\": 16}'")
    parser.add_argument(
        "--start-lr", type=float, default=1e-5, help="the first learning rate (default = 1e-05)"
    )
    parser.add_argument(
        "--end-lr", type=float, default=10, help="the last learning rate (default = 10)"
    )
    parser.add_argument(
        "--num-batches",
        type=int,
        default=100,
        help="the number of training steps, each with a larger learning rate (default = 100)",
    )
    parser.add_argument(
        "--stopping-factor",
        type=float,
        help="end the search when the loss is this many times the lowest loss",
    )
    parser.add_argument(
        "--linear",
        action="store_true",
        help="raise the learning rate by equal amounts (by default by equal factors)",
    )
    add_file_friendly_logging(parser)


def run(args: argparse.Namespace) -> None:
    from allennlp.commands.find_learning_rate import _save_plot
    from allennlp.common import logging as common_logging
    from allennlp.training.util import create_serialization_dir

    from allencv.catalogue import read_config
    from allencv.experiments.learning_rate_search import learning_rates_and_losses, suggest
    from allencv.runtime.whole_files import whole_file

    common_logging.FILE_FRIENDLY_LOGGING = args.file_friendly_logging
    params = read_config(args.param_path, args.overrides)
    create_serialization_dir(params, args.serialization_dir, recover=False, force=args.force)
    rates, losses = learning_rates_and_losses(
        params,
        args.serialization_dir,
        start_lr=args.start_lr,
        end_lr=args.end_lr,
        num_batches=args.num_batches,
        linear_steps=args.linear,
        stopping_factor=args.stopping_factor,
    )
    plot = Path(args.serialization_dir) / "lr-losses.png"
    with whole_file(plot) as temporary:
        _save_plot(rates, losses, str(temporary))
    print(f"the loss falls fastest at a learning rate of {suggest(rates, losses):.2g}: {plot}")
