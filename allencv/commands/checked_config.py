import argparse
import os
from tempfile import TemporaryDirectory
from typing import Callable


def with_checked_config(
    run: Callable[[argparse.Namespace], None],
) -> Callable[[argparse.Namespace], None]:
    """
    Make a command of AllenNLP check its config first. The command gets a file with the evaluated
    config and the overrides, which AllenNLP ignores here (allennlp/commands/count_instances.py,
    build_vocab.py).
    """

    def run_checked(args: argparse.Namespace) -> None:
        from allencv.catalogue import DATA_KEYS, read_config

        params = read_config(args.param_path, args.overrides, DATA_KEYS)
        with TemporaryDirectory() as folder:
            args.param_path = os.path.join(folder, "config.json")
            params.to_file(args.param_path)
            run(args)

    return run_checked
