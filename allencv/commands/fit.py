import argparse
import shlex
import sys
from typing import Any, Dict, Tuple

from allencv.commands.shared_arguments import is_config
from allencv.runtime.errors import InputError

DATA = """\
DATA is one of
  a folder with train/ and val/ (and test/, calibration/), each with a folder of images for each
    class, or with a table, such as train/metadata.csv
  a folder with a folder of images for each class; a fifth of the images is held out
  a table (CSV, TSV, JSON lines, Parquet), or a folder with one: each row has a path and
    a label, several labels, or a column of 0 and 1 for each label
  a list (.txt) of lines with a path and a label
  a folder with train/ and val/ (and test/) of tar shards, as 'allencv pack' writes them, or
    shards for training: a folder, or a path such as 'shards/train-{000..146}.tar'
  the name of a dataset in torchvision.datasets, such as CIFAR10; it is downloaded"""

EPILOG = """\
The command prints what it found, with the option that overrides each guess, and what it chose, with
reasons. It writes the choices to OUTPUT.jsonnet, an ordinary config. You can change it and train it
with 'allencv train OUTPUT.jsonnet -s another_run'. If the data are ambiguous, the command exits and
names the options that decide.

examples:
  allencv fit photos/ -o runs/first
  allencv fit metadata.csv -o runs/posters --image-root posters/ --time 10m
  allencv fit train.csv -o runs/birds --validation val.csv --label-column species
  allencv fit breeds/ -o runs/breeds --label-pattern '([^/]+)_[0-9]+\\.jpg$'
  allencv fit CIFAR10 -o runs/cifar --epochs 20
  allencv fit photos/ -o runs/vit --backbone vit_small_patch16_224 --lr auto
  allencv fit photos/ -o runs/first --quick
  allencv fit photos/ -o runs/first --write-config-only"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"{parser.description}\n\n{DATA}"
    parser.epilog = EPILOG
    parser.add_argument("data", metavar="DATA", type=str, help="the images; see above")
    parser.add_argument(
        *("-o", "--output"),
        required=True,
        type=str,
        help="the folder to write the trained model and its training records to",
    )
    choices = parser.add_argument_group("choices (by default made from the data)")
    choices.add_argument(
        "--backbone",
        type=str,
        help="conv_groups, small_resnet, or a name of torchvision.models or of timm",
    )
    choices.add_argument(
        "--weights",
        type=str,
        help="a file of pretrained weights for the backbone, or 'none' for random weights",
    )
    choices.add_argument(
        "--image-size", type=int, help="the side length of the square images, in pixels"
    )
    choices.add_argument("--batch-size", type=int, help="the number of images in a step")
    choices.add_argument(
        "--epochs", type=int, help="the number of passes over the data; not with --quick alone"
    )
    choices.add_argument(
        "--time",
        type=str,
        help="the time to train for, such as 10m or 1.5h; sets the number of epochs. With --quick: "
        "the time to try networks (default = 60s). With --then: the time for everything",
    )
    choices.add_argument(
        "--lr",
        type=str,
        help="the learning rate, or 'auto' to search for one in a few training steps",
    )
    quick = parser.add_argument_group("quick fit (see docs/quick.md)")
    quick.add_argument(
        "--quick",
        action="store_true",
        help="fit only the last layer, on the features of pretrained networks: a minute on a CPU",
    )
    quick.add_argument(
        "--backbones",
        type=str,
        metavar="NAME,NAME",
        help="with --quick: the networks to try, names of torchvision.models or of timm",
    )
    quick.add_argument(
        "--then",
        choices=["finetune"],
        help="with --quick: afterwards train the whole network from there, into OUTPUT_finetuned; "
        "the result is never worse on the validation images",
    )
    choices.add_argument("--seed", type=int, default=0, help="the random seed (default = 0)")
    _add_data_arguments(parser)
    parser.add_argument(
        "--write-config-only", action="store_true", help="write OUTPUT.jsonnet and do not train"
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("how to read the data (by default inferred and printed)")
    add_task(data)
    data.add_argument("--validation", type=str, help="validation data: a path like DATA")
    data.add_argument("--test", type=str, help="test data, evaluated at the end: a path like DATA")
    data.add_argument(
        "--no-calibration",
        dest="calibration",
        action="store_false",
        help="do not calibrate the model. By default it is calibrated on the images of a folder "
        "'calibration' beside 'train', or else on a tenth of the training images, which is held "
        "out if it has 200 images or more",
    )
    data.add_argument(
        "--on-error",
        choices=["skip", "fail"],
        default="skip",
        help="what to do with unreadable images: skip and list them, or fail (default = skip)",
    )
    add_root(data)
    add_layout_arguments(parser)


def add_task(data: argparse._ActionsContainer) -> None:
    data.add_argument(
        "--task",
        choices=["single", "multi"],
        help="whether an image has one label, or any number of labels",
    )


def add_root(data: argparse._ActionsContainer) -> None:
    data.add_argument(
        "--root",
        type=str,
        default="data",
        help="the folder of torchvision's datasets, also for downloads (default = data)",
    )


def add_layout_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for folders, and those for tables and lists."""
    folder = parser.add_argument_group("for folders")
    folder.add_argument(
        "--layout",
        choices=["splits", "classes"],
        help="whether the folders in DATA are splits (train, val, test, ...) or classes",
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
        help="a regular expression whose one group matches the label in the path of an image",
    )
    table = parser.add_argument_group("for tables and lists")
    table.add_argument("--image-column", type=str, help="the column of the paths")
    table.add_argument("--image-root", type=str, help="the folder that paths are relative to")
    table.add_argument("--label-column", type=str, help="the column of the labels")
    table.add_argument(
        "--label-delimiter", type=str, help="the separator of an image's labels, such as '|'"
    )
    table.add_argument(
        "--missing-labels",
        choices=["skip", "keep"],
        help="what to do with rows whose label is empty or a word such as NaN: skip them, or keep "
        "such words as labels (by default they are an error)",
    )
    table.add_argument(
        "--split-column",
        type=str,
        help="the column with train, val and test, or 'none' to use no such column",
    )
    table.add_argument("--delimiter", type=str, help="the separator of the cells, such as ';'")
    table.add_argument("--encoding", type=str, help="the encoding of the text (default = utf-8)")


def layout_options(args: argparse.Namespace) -> Tuple[Any, Any]:
    """
    Return the `TableColumns` and `FolderOptions` for `args.data`.

    Raises an `InputError` for options without effect: these for a config, and overrides for data.
    """
    from allencv.fitting.options import FolderOptions, TableColumns

    columns, folders = (
        {key: getattr(args, key, None) for key in options.__annotations__}
        for options in (TableColumns, FolderOptions)
    )
    if not is_config(args.data):
        if args.overrides:
            raise InputError(f"--overrides is for a config, but DATA is '{args.data}'")
        return TableColumns(**columns), FolderOptions(**folders)
    for key, value in {**columns, **folders}.items():
        if value is not None:
            option = f"--{key.replace('_', '-')}"
            raise InputError(f"{option} has no effect on the config '{args.data}'; leave it out")
    return TableColumns(), FolderOptions()


def run(args: argparse.Namespace) -> None:
    from allennlp.common.checks import ConfigurationError

    from allencv.fitting.fit import FitOptions, config_file_of, config_for, fit, write_config
    from allencv.fitting.options import FolderOptions, TableColumns

    def given(options: type) -> Dict[str, Any]:
        return {key: value for key, value in vars(args).items() if key in options.__annotations__}

    table, folders = TableColumns(**given(TableColumns)), FolderOptions(**given(FolderOptions))
    options = FitOptions(**given(FitOptions), table=table, folders=folders)
    written_by = f"allencv {shlex.join(sys.argv[1:])}"
    if args.write_config_only:
        if options.then is not None:
            raise ConfigurationError(
                f"--then is {options.then}; expected it only without --write-config-only, which "
                "trains nothing"
            )
        packages = args.include_package
        text = config_for(args.data, args.output, options, written_by, _say, packages)
        write_config(config_file_of(args.output), text, _say)
        return
    fitted = fit(args.data, args.output, options, args.include_package, written_by, _say)
    _say("\n".join(fitted.lines()))


def _say(text: str) -> None:
    print(text, flush=True)
