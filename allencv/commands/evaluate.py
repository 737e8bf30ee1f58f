"""
AllenNLP's `evaluate`. It prints the metrics, and runs no code from an archive by default. Several
processes give the same results as one.
"""

import argparse
import json
import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

from allencv.commands.shared_arguments import (
    add_archive_file,
    add_cuda_devices,
    add_model_of_allennlp,
    check_cuda_devices,
    with_opened_archive,
)
from allencv.runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_archive_file(parser)
    parser.add_argument(
        "input_file",
        type=str,
        help="the data with labels, as validation_data_path in a config; several are separated by "
        "commas",
    )
    parser.add_argument(
        "--output-file",
        type=str,
        help="the JSON file to write the metrics to; for several data, one for each, separated by "
        "commas",
    )
    parser.add_argument(
        "--predictions-output-file",
        type=str,
        help="the JSON-lines file to write the predictions to; for several data, one for each",
    )
    parser.add_argument(
        "--auto-names",
        default="NONE",
        choices=("NONE", "METRICS", "PREDS", "ALL"),
        help="choose the names of the files of the metrics, the predictions or both from those of "
        "the data (default = NONE)",
    )
    parser.add_argument("--batch-size", type=int, help="the number of images in a batch")
    parser.add_argument(
        "--batch-weight-key",
        type=str,
        default="",
        help="the output of the model that weights the loss of each batch",
    )
    parser.add_argument(
        "--extend-vocab", action="store_true", help="for text: add the data to the vocabulary"
    )
    parser.add_argument(
        "--embedding-sources-mapping",
        type=str,
        default="",
        help="for text, with --extend-vocab: a JSON object with the files of pretrained embeddings",
    )
    add_cuda_devices(parser, "evaluate")
    add_model_of_allennlp(parser)


def run(args: argparse.Namespace) -> None:
    from allennlp.commands.evaluate import evaluate_from_args
    from allennlp.common.checks import ConfigurationError

    from allencv.common.data_paths import with_key
    from allencv.training.distributed.launch import launch
    from allencv.training.distributed.ranks import joined
    from allencv.training.distributed.settings import TIMEOUT_S, Distributed
    from allencv.training.distributed.train_rank import process_group

    if args.batch_size is not None and args.batch_size < 1:
        raise InputError(f"--batch-size is {args.batch_size}; expected at least 1")
    with joined() as rank, ExitStack() as stack:
        check_cuda_devices(args.cuda_device)
        devices = args.cuda_device
        if rank is None and len(devices) > 1:
            launch(Distributed(cuda_devices=devices), 0, command_of_rank(args))
            return
        if os.path.exists(args.input_file):
            # AllenNLP would split the path at commas, and parse a name of digits as a number.
            args.input_file = json.dumps(args.input_file)
        stack.enter_context(with_opened_archive(args))
        if rank is None or rank.rank == 0:
            stack.enter_context(_whole_outputs(args))
        if rank is None:
            (args.cuda_device,) = devices
        else:
            args.cuda_device = device_of_rank(devices, rank.local_rank, rank.local_world_size)
            stack.enter_context(process_group(rank, args.cuda_device, TIMEOUT_S))
        try:
            metrics = evaluate_from_args(args)
        except ConfigurationError as error:
            raise ConfigurationError(with_key(error.message, "input_file")) from error
        if rank is None or rank.rank == 0:
            print("\n".join(metric_lines(metrics)))


def device_of_rank(devices: List[int], rank: int, ranks: int) -> int:
    """
    Return the device of a rank of this machine.

    # Raises

    `InputError` unless there is one for each rank.
    """
    devices = devices * ranks if devices == [-1] else devices
    if len(devices) != ranks:
        raise InputError(
            f"--cuda-device is {','.join(map(str, devices))}, but {ranks} processes are started on "
            "this machine; expected a device for each, or -1"
        )
    return devices[rank]


def command_of_rank(args: argparse.Namespace) -> List[str]:
    """Return the arguments of `allencv` for each of several processes."""
    command = ["evaluate", f"--cuda-device={','.join(map(str, args.cuda_device))}"]
    command += [f"--include-package={each}" for each in args.include_package]
    for name in (
        *("output_file", "predictions_output_file", "auto_names", "batch_size"),
        *("batch_weight_key", "embedding_sources_mapping", "overrides", "weights_file"),
        *("extend_vocab", "file_friendly_logging", "trust_archive"),
    ):
        option, value = f"--{name.replace('_', '-')}", getattr(args, name)
        if value is True:
            command.append(option)
        elif value not in (None, "", False):
            command.append(f"{option}={value}")
    return [*command, "--", args.archive_file, args.input_file]


@contextmanager
def _whole_outputs(args: argparse.Namespace) -> Iterator[None]:
    """Let AllenNLP write the files that are named as a whole or not at all."""
    from allencv.runtime.whole_files import whole_file

    with ExitStack() as files:
        for option in ("output_file", "predictions_output_file"):
            if getattr(args, option) is not None and args.auto_names == "NONE":
                outputs = _output_files(args.input_file, option, getattr(args, option))
                whole = [str(files.enter_context(whole_file(output))) for output in outputs]
                setattr(args, option, ",".join(whole))
        yield


def _output_files(inputs: str, option: str, outputs: str) -> List[Path]:
    """Return the files that an option names, one for each input, and make their folders."""
    from allencv.runtime.json_files import parse_json

    try:
        count = len(parse_json(f"[{inputs}]"))
    except ValueError:
        count = len(inputs.split(","))
    files = [Path(file) for file in outputs.split(",")]
    if len(files) != count:
        raise InputError(
            f"--{option.replace('_', '-')} is '{outputs}', the names of {len(files)} files; "
            f"expected {count}, one for each input, separated by commas"
        )
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
    return files


def metric_lines(metrics: Dict[str, Any]) -> List[str]:
    """Return a line for each metric, with names and values in columns."""
    width = max(map(len, metrics), default=0)
    return [
        f"{name:<{width}}  {f'{value:.4f}' if isinstance(value, float) else json.dumps(value)}"
        for name, value in metrics.items()
    ]
