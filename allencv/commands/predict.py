"""AllenNLP's `predict`. It runs no code from an archive by default."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Iterator

from allencv.commands.shared_arguments import (
    add_archive_file,
    add_cuda_device,
    add_model_of_allennlp,
    check_cuda_device,
    with_opened_archive,
)
from allencv.runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_archive_file(parser)
    parser.add_argument(
        "input_file", type=str, help='a file of JSON lines, such as {"image": "photo.jpg"}'
    )
    parser.add_argument("--output-file", type=str, help="the file to write JSON lines to")
    parser.add_argument(
        "--batch-size", type=int, default=1, help="the number of lines in a batch (default = 1)"
    )
    parser.add_argument("--silent", action="store_true", help="do not print the predictions")
    parser.add_argument(
        "--use-dataset-reader",
        action="store_true",
        help="read the input with the config's reader, like the validation data",
    )
    parser.add_argument(
        "--dataset-reader-choice",
        choices=("train", "validation"),
        default="validation",
        help="with --use-dataset-reader: which reader of the config (default = validation)",
    )
    parser.add_argument(
        "--multitask-head",
        type=str,
        help="with --use-dataset-reader and a multitask model: the name of its head",
    )
    parser.add_argument("--predictor", type=str, help="the name of a registered predictor to use")
    parser.add_argument(
        "--predictor-args",
        type=str,
        default="",
        help="a JSON object of arguments for the predictor",
    )
    add_cuda_device(parser)
    add_model_of_allennlp(parser)


def run(args: argparse.Namespace) -> None:
    from unittest.mock import patch

    from allennlp.commands import predict
    from allennlp.common.util import JsonDict

    from allencv.runtime.whole_files import whole_file

    if args.batch_size < 1:
        raise InputError(f"--batch-size is {args.batch_size}; expected at least 1")
    check_cuda_device(args.cuda_device)
    if args.predictor_args.strip() and not isinstance(_parsed(args.predictor_args), dict):
        raise InputError(f"--predictor-args is '{args.predictor_args}'; expected a JSON object")

    class PredictManager(predict._PredictManager):
        def _get_json_data(self) -> Iterator[JsonDict]:
            try:
                yield from super()._get_json_data()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"'{args.input_file}' is not text in UTF-8 ({error.reason}); expected lines "
                    'such as {"image": "photo.jpg"}; for images and folders, use \'allencv '
                    "classify'"
                ) from error

    with with_opened_archive(args), ExitStack() as files:
        if args.output_file is not None:
            Path(args.output_file).parent.mkdir(parents=True, exist_ok=True)
            args.output_file = str(files.enter_context(whole_file(args.output_file)))
        files.enter_context(patch.object(predict, "_PredictManager", PredictManager))
        predict._predict(args)


def _parsed(text: str) -> Any:
    from allencv.runtime.json_files import parse_json

    try:
        return parse_json(text)
    except ValueError:
        return None
