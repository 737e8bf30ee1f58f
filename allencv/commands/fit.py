import argparse
import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from allennlp.commands.subcommand import Subcommand

DESCRIPTION = """\
Look at images with labels, choose sensible defaults, write them as a config, and train it.

DATA is one of
  a folder with train/ and val/ (and test/), each with a folder of images for each class,
    or with a table, such as train/metadata.csv
  a folder with a folder of images for each class, of which a fifth is held out
  a table (CSV, TSV, JSON lines, Parquet), or a folder with one: a path and a label,
    several labels, or a column of 0 and 1 for each
  a list (.txt) of lines with a path and a label
  the name of a data set in torchvision.datasets, such as CIFAR10, which is downloaded"""

EPILOG = """\
The command prints what it found, with the option that overrides each guess, and what it chose, with
reasons. It writes the choices to OUTPUT.jsonnet, an ordinary config: change it and train it with
'allencv train OUTPUT.jsonnet -s another_run'. If the data are ambiguous, the command ends
and says which option decides.

examples:
  allencv fit photos/ -o runs/first
  allencv fit metadata.csv -o runs/posters --image-root posters/ --time 10m
  allencv fit train.csv -o runs/birds --validation val.csv --label-column species
  allencv fit breeds/ -o runs/breeds --label-pattern '([^/]+)_[0-9]+\\.jpg$'
  allencv fit CIFAR10 -o runs/cifar --epochs 20
  allencv fit photos/ -o runs/vit --backbone vit_small_patch16_224 --lr auto
  allencv fit photos/ -o runs/first --write-config-only"""


@Subcommand.register("fit")
class Fit(Subcommand):
    """Trains a classifier on a folder of images or a table, with defaults that it explains."""

    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(
            self.name,
            description=DESCRIPTION,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            help="""Train a classifier on a folder of images or a table, with good defaults.""",
        )
        subparser.add_argument("data", metavar="DATA", type=str, help="the images; see above")
        subparser.add_argument(
            *("-o", "--output"),
            required=True,
            type=str,
            help="the folder for the trained model and everything about its training",
        )
        choices = subparser.add_argument_group("choices (by default made from the data)")
        choices.add_argument(
            "--backbone",
            type=str,
            help="small_resnet, or a name of torchvision.models or of timm",
        )
        choices.add_argument(
            "--weights",
            type=str,
            help="a file of the backbone's pretrained weights, or 'none' to start from random ones",
        )
        choices.add_argument("--image-size", type=int, help="the side of the square, in pixels")
        choices.add_argument("--batch-size", type=int, help="images in a step")
        choices.add_argument("--epochs", type=int, help="how often training goes through the data")
        choices.add_argument(
            "--time",
            type=str,
            help="as many epochs as fit into a time, such as 10m or 1.5h, measured on this machine",
        )
        choices.add_argument(
            "--lr",
            type=str,
            help="the learning rate, or 'auto' to search it by training for some steps",
        )
        choices.add_argument("--seed", type=int, default=0, help="of training (default = 0)")
        _add_data_arguments(subparser)
        subparser.add_argument(
            "--write-config-only", action="store_true", help="write OUTPUT.jsonnet and end"
        )
        subparser.set_defaults(func=_fit)
        return subparser


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("how to read the data (by default inferred and printed)")
    data.add_argument(
        "--task",
        choices=["single", "multi"],
        help="whether an image has one label, or any number of labels",
    )
    data.add_argument("--validation", type=str, help="validation data: a path like DATA")
    data.add_argument("--test", type=str, help="test data, evaluated at the end: a path like DATA")
    data.add_argument(
        "--on-error",
        choices=["skip", "fail"],
        default="skip",
        help="leave out images that cannot be read, and name them; or end (default = skip)",
    )
    data.add_argument(
        "--root",
        type=str,
        default="data",
        help="where data sets of torchvision are, or are downloaded to (default = data)",
    )
    folder = parser.add_argument_group("for folders")
    folder.add_argument(
        "--layout",
        choices=["splits", "classes"],
        help="whether the folders in DATA are splits (train, val, test), or classes",
    )
    folder.add_argument(
        "--recursive",
        action="store_true",
        default=None,
        help="read the images in folders inside the class folders too",
    )
    folder.add_argument(
        "--label-pattern",
        type=str,
        help="a regular expression with one group, which finds the label in the path of an image",
    )
    table = parser.add_argument_group("for tables and lists")
    table.add_argument("--image-column", type=str, help="the column of the paths")
    table.add_argument("--image-root", type=str, help="the folder that paths are relative to")
    table.add_argument("--label-column", type=str, help="the column of the labels")
    table.add_argument(
        "--label-delimiter", type=str, help="what is between the labels of an image, such as '|'"
    )
    table.add_argument(
        "--missing-labels",
        choices=["skip", "keep"],
        help="leave out the rows whose label is empty or a word such as NaN; or keep such words as "
        "labels (by default, they are an error)",
    )
    table.add_argument(
        "--split-column",
        type=str,
        help="the column with train, val and test; 'none' to use no such column",
    )
    table.add_argument("--delimiter", type=str, help="what is between the cells, such as ';'")
    table.add_argument("--encoding", type=str, help="of the text (default = utf-8)")


def _fit(args: argparse.Namespace) -> None:
    from allennlp.common import Params
    from allennlp.common.checks import ConfigurationError

    from allencv.fitting import Options, as_config, as_jsonnet, choose, examine_data, find_data
    from allencv.fitting.data_facts import found_lines
    from allencv.fitting.options import FolderOptions, TableColumns
    from allencv.fitting.time_budget import seconds_of
    from allencv.training.run_folder import is_unbegun, locked
    from allencv.training.train_in_folder import train_in_folder

    begun = time.perf_counter()
    logging.disable(logging.INFO)  # until training: what there is to say is printed
    if not args.output.strip():
        raise ConfigurationError("--output is empty; expected the path of a folder")
    folder = Path(args.output)
    if folder.name in ("", ".."):  # the config goes beside the folder, under its name
        folder = folder.resolve()
    if not folder.name:
        raise ConfigurationError(f"--output is {args.output!r}; expected a folder with a name")
    config_file = folder.with_name(folder.name + ".jsonnet")
    is_used = folder.exists() and any(folder.iterdir()) and not is_unbegun(folder)
    if is_used and not args.write_config_only:
        raise ConfigurationError(
            f"--output is {args.output!r}, which has files; expected a new folder, or 'allencv "
            f"train {config_file} -s {args.output} --recover' to resume an interrupted run"
        )
    for key, least in (("epochs", 1), ("batch_size", 1), ("image_size", 8)):
        if (value := getattr(args, key)) is not None and value < least:
            option = f"--{key.replace('_', '-')}"
            raise ConfigurationError(f"{option} is {value}; expected {least} or more")
    if args.epochs is not None and args.time is not None:
        raise ConfigurationError(
            f"--epochs is {args.epochs} and --time is {args.time}; expected one of them"
        )
    budget = None if args.time is None else seconds_of(args.time)
    learning_rate = _learning_rate(args.lr)

    columns = TableColumns(**{key: getattr(args, key) for key in TableColumns.__annotations__})
    folders = FolderOptions(**{key: getattr(args, key) for key in FolderOptions.__annotations__})
    found = find_data(args.data, columns, args.root, folders)
    facts = examine_data(found)
    print("\n".join(found_lines(args.data, found, facts)), flush=True)
    if facts.unreadable and args.on_error == "fail":
        raise ConfigurationError(
            f"--on-error is fail, and images cannot be read ({len(facts.unreadable)}); repair "
            "or remove them, or leave them out with --on-error skip"
        )
    options = Options(
        args.backbone,
        args.weights,
        args.image_size,
        args.epochs,
        learning_rate,
        args.batch_size,
        skips_unreadable=args.on_error == "skip",
    )
    choices = choose(facts, options)
    config = as_config(found, facts, choices)
    seeds = dict.fromkeys(("random_seed", "numpy_seed", "pytorch_seed"), args.seed)
    if args.lr == "auto":
        choices.learning_rate, why = _search_learning_rate(config | seeds)
        choices.reasons["learning rate"] = (f"{choices.learning_rate:.2g}", why)
    if budget is not None:
        left = budget - (time.perf_counter() - begun)
        choices.epochs, why = _epochs_in(left, args.time, config | seeds)
        choices.reasons["epochs"] = (str(choices.epochs), why)
    print("Chosen:", *choices.lines(), sep="\n", flush=True)

    config = as_config(found, facts, choices) | seeds
    written_by = f"Written by: allencv {shlex.join(sys.argv[1:])}"
    header = f"{written_by}\n\n  allencv train {config_file} -s {args.output}"
    text = as_jsonnet(config, facts, choices, header)
    if args.write_config_only:
        _write_config(config_file, text)
        return
    with locked(folder):  # first: the config that is there may be that of a run which is training
        _write_config(config_file, text)
        logging.disable(logging.NOTSET)
        train_in_folder(
            Params.from_file(str(config_file)),
            args.output,
            include_package=["allencv.plugin", *args.include_package],
        )
    print("\n".join(result_lines(folder)))


def _write_config(file: Path, text: str) -> None:
    from allencv.runtime.whole_files import write_text

    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)
    print(f"Config: {file}", flush=True)


def _learning_rate(text: Optional[str]) -> Optional[float]:
    from allennlp.common.checks import ConfigurationError

    if text is None or text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigurationError(f"--lr is {text!r}; expected a number above 0, or 'auto'")
    return value


def _search_learning_rate(config: Dict[str, Any]) -> Tuple[float, str]:
    import tempfile

    from allennlp.common import Params

    from allencv.training.learning_rate_search import learning_rates_and_losses, suggest

    with tempfile.TemporaryDirectory() as folder:
        rates, losses = learning_rates_and_losses(
            Params(_copy(config)), folder, end_lr=1, num_batches=60, stopping_factor=4
        )
    return float(f"{suggest(rates, losses):.1e}"), "where the loss fell fastest, in 60 steps"


def _epochs_in(seconds: float, asked: str, config: Dict[str, Any]) -> Tuple[int, str]:
    from allencv.fitting.time_budget import RESERVE, seconds_per_epoch

    started = time.perf_counter()
    per_epoch = seconds_per_epoch(_copy(config))
    left = (seconds - (time.perf_counter() - started)) * (1 - RESERVE)
    epochs = max(1, int(left / per_epoch))
    if per_epoch > left:
        print(
            f"warning: one epoch takes about {per_epoch:.0f} s, more than --time {asked} leaves; "
            "a smaller --image-size or --backbone is faster",
            flush=True,
        )
    return epochs, f"about {per_epoch:.1f} s each, in {asked}"


def _copy(config: Dict[str, Any]) -> Dict[str, Any]:
    """AllenNLP takes what it has used out of a config."""
    return json.loads(json.dumps(config))


def result_lines(folder: Path) -> "list[str]":
    """How good the model is, and what can be done with it."""
    metrics = json.loads((folder / "metrics.json").read_text())
    best = {
        key.removeprefix("best_validation_"): value
        for key, value in metrics.items()
        if key.startswith("best_validation_") and isinstance(value, float)
    }
    shown = ", ".join(f"{key} {best[key]:.3f}" for key in list(best)[:4])
    archive = folder / "model.tar.gz"
    return [
        f"Done in {metrics['training_duration'].partition('.')[0]}. Best epoch: "
        f"{metrics['best_epoch'] + 1} of {metrics['epoch'] + 1}. On the validation images: {shown}",
        f"  allencv report {folder} -o report.html",
        f"  allencv classify {archive} photos/ -o predictions.csv",
        f"  allencv export {archive} bundle/",
        f"  allencv serve {archive}",
    ]
