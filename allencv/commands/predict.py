import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from allennlp.commands import predict
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from allencv.commands.shared_arguments import opens_archive


@Subcommand.register("predict", exist_ok=True)
class Predict(predict.Predict):
    """AllenNLP's `predict`. It runs no code from the archive unless you trust it."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        return opens_archive(super().add_subparser(parser), _predict)


def _predict(args: argparse.Namespace) -> None:
    from allencv.runtime.whole_files import whole_file

    if args.batch_size < 1:
        raise ConfigurationError(f"--batch-size is {args.batch_size}; expected at least 1")
    if args.predictor_args.strip() and not isinstance(_parsed(args.predictor_args), dict):
        raise ConfigurationError(
            f"--predictor-args is '{args.predictor_args}'; expected a JSON object"
        )
    try:
        with ExitStack() as files:
            if args.output_file is not None:
                Path(args.output_file).parent.mkdir(parents=True, exist_ok=True)
                args.output_file = str(files.enter_context(whole_file(args.output_file)))
            predict._predict(args)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"'{args.input_file}' is not text in UTF-8 ({error.reason}); expected lines such as "
            '{"image": "photo.jpg"}; for images and folders, use \'allencv classify\''
        ) from error


def _parsed(text: str) -> Any:
    from allencv.runtime.json_files import parse_json

    try:
        return parse_json(text)
    except ValueError:
        return None
