"""Arguments that several commands have, and how commands use them."""

import argparse
import os
import re
from contextlib import contextmanager
from typing import Iterator, List

from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive

CONFIGS = (".jsonnet", ".json")


def add_details(parser: argparse.ArgumentParser, details: str) -> None:
    """Add sentences to the description of a command, which begins with its summary."""
    parser.description = f"{parser.description} {details}"


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "param_path", metavar="CONFIG", type=str, help="path to an experiment config file"
    )


def is_config(path: str) -> bool:
    """Return whether a path that may also be one of data is that of a config."""
    return path.endswith(CONFIGS) and os.path.isfile(path)


def add_archive_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "archive_file", type=str, help="a model archive (model.tar.gz), or the folder of its run"
    )


def add_serialization_dir(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(*("-s", "--serialization-dir"), required=True, type=str, help=text)


def add_force(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(*("-f", "--force"), action="store_true", help=text)


def add_file_friendly_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file-friendly-logging",
        action="store_true",
        help="show the progress less often, and on separate lines",
    )


def add_cuda_device(parser: argparse._ActionsContainer, when: str = "") -> None:
    parser.add_argument(
        "--cuda-device",
        type=int,
        default=-1,
        help=f"{when}the number of the GPU, or -1 for the CPU (the default)",
    )


def add_cuda_devices(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add `--cuda-device` for one device or several, which the processes use for a `purpose`."""
    parser.add_argument(
        "--cuda-device",
        type=_device_numbers,
        default=[-1],
        metavar="N[,N...]",
        help="the number of the GPU, or -1 for the CPU (the default); several, such as 0,1, "
        f"{purpose} in a process for each",
    )
    # Otherwise "-1,-1" would be taken for an option. argparse has no public way to allow it.
    parser._negative_number_matcher = re.compile(r"-\d+(,-?\d+)*$")


def _device_numbers(text: str) -> List[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers such as 0,1 or -1") from None


def add_overrides(
    parser: argparse._ActionsContainer,
    *flags: str,
    when: str = "",
    such_as: str = ", such as '{\"trainer.num_epochs\": 10}'",
) -> None:
    """Add the argument `--overrides`, with further `flags`. Its help begins with `when`."""
    parser.add_argument(
        *flags,
        "--overrides",
        type=str,
        default="",
        help=f"{when}a JSON or jsonnet object that overrides keys of the config{such_as}",
    )


def add_model_of_allennlp(parser: argparse.ArgumentParser) -> None:
    """Add what `evaluate` and `predict` have besides the device, which AllenNLP runs."""
    add_overrides(parser, "-o")
    parser.add_argument(
        "--weights-file",
        type=str,
        help="weights to use instead of the archive's, such as those of another epoch",
    )
    add_file_friendly_logging(parser)
    add_trust_archive(parser)


@contextmanager
def with_opened_archive(args: argparse.Namespace) -> Iterator[None]:
    """Let a command of AllenNLP use a checked copy of its archive while the block runs."""
    from allencv.common.archives import opened_archive

    with opened_archive(args.archive_file, args.trust_archive, args.weights_file) as folder:
        args.archive_file = str(folder)
        yield


@contextmanager
def with_checked_config(args: argparse.Namespace) -> Iterator[None]:
    """
    Check a command's config, for its data alone. AllenNLP then reads a file with the evaluated
    config and the overrides, which it ignores in these commands (allennlp/commands/
    count_instances.py, build_vocab.py).
    """
    import os
    from tempfile import TemporaryDirectory

    from allencv.catalogue import DATA_KEYS, read_config

    params = read_config(args.param_path, args.overrides, DATA_KEYS)
    with TemporaryDirectory() as folder:
        args.param_path = os.path.join(folder, "config.json")
        params.to_file(args.param_path)
        yield


def refuse_engine(args: argparse.Namespace) -> None:
    """Raise `InputError` for `--engine` with an archive."""
    if args.engine is not None:
        raise InputError(f"'{args.model}' is an archive; --engine is for bundles")


def check_cuda_device(number: int) -> None:
    """Raise `InputError` unless `number` is that of a GPU, or -1 for the CPU."""
    import torch

    count = torch.cuda.device_count()
    if not -1 <= number < count:
        gpus = f"or a GPU from 0 to {count - 1}" if count else "as this machine has no GPU"
        raise InputError(f"--cuda-device is {number}; expected -1 for the CPU, {gpus}")


def check_cuda_devices(numbers: List[int]) -> None:
    """Raise `InputError` unless each process can have its own GPU, or all use the CPU."""
    for number in numbers:
        check_cuda_device(number)
    is_cpu = set(numbers) == {-1}
    if not is_cpu and (-1 in numbers or len(set(numbers)) < len(numbers)):
        raise InputError(
            f"--cuda-device is {','.join(map(str, numbers))}; expected different GPUs, or -1 for "
            "each process"
        )
