import argparse

from allennlp.commands import find_learning_rate
from allennlp.commands.subcommand import Subcommand
from allennlp.common import Params
from allennlp.common import logging as common_logging


@Subcommand.register("find-lr", exist_ok=True)
class FindLearningRate(find_learning_rate.FindLearningRate):
    """
    AllenNLP's `find-lr`, which also takes configs of the "image" trainer. AllenNLP's refuses any
    but "gradient_descent" (commands/find_learning_rate.py), whose forward pass and optimizer step
    are all that it uses.
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = super().add_subparser(parser)
        subparser.set_defaults(func=_find_learning_rate)
        return subparser


def _find_learning_rate(args: argparse.Namespace) -> None:
    common_logging.FILE_FRIENDLY_LOGGING = args.file_friendly_logging
    params = Params.from_file(args.param_path, args.overrides)
    trainer = params["trainer"]
    if trainer.get("type") == "image":
        trainer["type"] = "gradient_descent"
        for key in ("use_amp", "amp_dtype", "grad_scaling"):
            trainer.params.pop(key, None)  # of mixed precision, which this search does without
    find_learning_rate.find_learning_rate_model(
        params,
        args.serialization_dir,
        start_lr=args.start_lr,
        end_lr=args.end_lr,
        num_batches=args.num_batches,
        linear_steps=args.linear,
        stopping_factor=args.stopping_factor,
        force=args.force,
    )
