"""The parser of a command, and arguments that several commands have."""

import argparse
from typing import Any, Callable

from allennlp.common.checks import ConfigurationError

from allencv.command_list import SUMMARIES
from allencv.common.archives import opened_archive
from allencv.runtime.model_arguments import add_trust_archive


def add_command(
    commands: argparse._SubParsersAction, name: str, details: str = ""
) -> argparse.ArgumentParser:
    """Add a command's parser. Its description is the command's summary, and then `details`."""
    summary = SUMMARIES[name]
    return commands.add_parser(name, help=summary, description=f"{summary} {details}".rstrip())


def add_config(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument(
        "param_path", metavar="CONFIG", type=str, help="path to an experiment config file"
    )


def add_archive_file(subparser: argparse.ArgumentParser) -> None:
    subparser.add_argument(
        "archive_file", type=str, help="a model archive (model.tar.gz), or the folder of its run"
    )


def add_overrides(
    parser: argparse._ActionsContainer, *flags: str, when: str = "", such_as: str = ""
) -> None:
    """Add the argument `--overrides`, with further `flags`. Its help begins with `when`."""
    parser.add_argument(
        *flags,
        "--overrides",
        type=str,
        default="",
        help=f"{when}a JSON or jsonnet object that overrides keys of the config{such_as}",
    )


def opens_archive(
    subparser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], Any]
) -> argparse.ArgumentParser:
    """
    Make a command of AllenNLP run on a checked copy of its archive. The command has the arguments
    `archive_file` and `--cuda-device`.
    """
    add_trust_archive(subparser)

    def run_on_opened(args: argparse.Namespace) -> Any:
        check_cuda_device(args.cuda_device)
        weights_file = vars(args).get("weights_file")
        with opened_archive(args.archive_file, args.trust_archive, weights_file) as folder:
            args.archive_file = str(folder)
            return run(args)

    subparser.set_defaults(func=run_on_opened)
    return subparser


def refuse_engine(args: argparse.Namespace) -> None:
    """Raise `ConfigurationError` for `--engine` with an archive."""
    if args.engine is not None:
        raise ConfigurationError(f"'{args.model}' is an archive; --engine is for bundles")


def check_cuda_device(number: int) -> None:
    """Raise `ConfigurationError` unless `number` is that of a GPU, or -1 for the CPU."""
    import torch

    count = torch.cuda.device_count()
    if not -1 <= number < count:
        gpus = f"or a GPU from 0 to {count - 1}" if count else "as this machine has no GPU"
        raise ConfigurationError(f"--cuda-device is {number}; expected -1 for the CPU, {gpus}")
