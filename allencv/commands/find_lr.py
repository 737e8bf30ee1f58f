import argparse
from pathlib import Path

from allennlp.commands import find_learning_rate
from allennlp.commands.subcommand import Subcommand
from allennlp.common import logging as common_logging


@Subcommand.register("find-lr", exist_ok=True)
class FindLearningRate(find_learning_rate.FindLearningRate):
    """
    AllenNLP's `find-lr` for every trainer, in the trainer's precision. It suggests a learning rate.
    AllenNLP's accepts only the trainer "gradient_descent" (commands/find_learning_rate.py).
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=_find_learning_rate)
        return subparser


def _find_learning_rate(args: argparse.Namespace) -> None:
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
        find_learning_rate._save_plot(rates, losses, str(temporary))
    print(f"the loss falls fastest at a learning rate of {suggest(rates, losses):.2g}: {plot}")
