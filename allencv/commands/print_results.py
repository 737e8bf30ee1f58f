"""AllenNLP's `print-results`. By default it prints the metrics of each run's model."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, List

from allencv.runtime.errors import InputError

SHOWN = (
    "best_epoch",
    "best_validation_",
    "averaged_validation_",
    "interpolated_validation_",
    "test_",
)
"""The prefixes of the metrics that are printed without `--keys`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=str, help="the folder of a run, or a folder of several")
    parser.add_argument(
        *("-k", "--keys"),
        type=str,
        nargs="+",
        help="the metrics to print; N/A stands for a missing one (default = those of the model)",
    )
    parser.add_argument(
        *("-m", "--metrics-filename"),
        type=str,
        default="metrics.json",
        help="the name of the files of metrics (default = %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    from allencv.common.nearest_names import not_one_of

    results = _read_results(Path(args.path), args.metrics_filename)
    known = list(dict.fromkeys(key for metrics in results.values() for key in metrics))
    for key in args.keys or []:
        if key not in known:
            print(f"warning: {not_one_of('--keys', key, known)}", file=sys.stderr)
    keys = args.keys or [key for key in known if key.startswith(SHOWN)] or known
    print(", ".join(["model_run", *keys]))
    for file, metrics in results.items():
        print(", ".join([file, *(str(metrics.get(key, "N/A")) for key in keys)]))


def _read_results(folder: Path, name: str) -> Dict[str, Dict[str, Any]]:
    """Return the metrics of each run in a folder, by the name of their file."""
    from allencv.runtime.json_files import read_json

    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder; expected one with finished runs")
    files: List[str] = []
    for root, _, names in os.walk(folder):
        files += [os.path.join(root, name)] if name in names else []
    if not files:
        raise InputError(
            f"'{folder}' and its subfolders have no {name}; expected the folder of a finished run, "
            "or a folder of several"
        )
    results = {}
    for file in sorted(files):
        try:
            results[file] = read_json(file)
        except ValueError as error:
            raise InputError(f"'{file}' is not JSON: {error}") from error
        if not isinstance(results[file], dict):
            raise InputError(f"'{file}' has no metrics; expected a JSON object")
    return results
