import argparse
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List

from allennlp.commands import evaluate
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from allencv.commands.shared_arguments import opens_archive


@Subcommand.register("evaluate", exist_ok=True)
class Evaluate(evaluate.Evaluate):
    """
    AllenNLP's `evaluate`. It prints the metrics, and runs no code from the archive unless you trust
    it.
    """

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        return opens_archive(super().add_subparser(parser), _evaluate)


def _evaluate(args: argparse.Namespace) -> None:
    from allencv.runtime.whole_files import whole_file

    if args.batch_size is not None and args.batch_size < 1:
        raise ConfigurationError(f"--batch-size is {args.batch_size}; expected at least 1")
    if os.path.exists(args.input_file):
        # AllenNLP would split the path at commas, and parse a name of digits as a number.
        args.input_file = json.dumps(args.input_file)
    with ExitStack() as files:
        for option in ("output_file", "predictions_output_file"):
            if getattr(args, option) is not None and args.auto_names == "NONE":
                outputs = _output_files(args.input_file, option, getattr(args, option))
                whole = [str(files.enter_context(whole_file(output))) for output in outputs]
                setattr(args, option, ",".join(whole))
        metrics = evaluate.evaluate_from_args(args)
    print("\n".join(metric_lines(metrics)))


def _output_files(inputs: str, option: str, outputs: str) -> List[Path]:
    """Return the files that an option names, one for each input, and make their folders."""
    from allencv.runtime.json_files import parse_json

    try:
        count = len(parse_json(f"[{inputs}]"))
    except ValueError:
        count = len(inputs.split(","))
    files = [Path(file) for file in outputs.split(",")]
    if len(files) != count:
        raise ConfigurationError(
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
