"""The arguments of `classify`. Importing this is quick, so that `--help` is."""

import argparse

from allencv.runtime.cpu_count import cpu_count
from allencv.runtime.defaults import TOP_K
from allencv.runtime.model_arguments import add_model_arguments
from allencv.runtime.ray_arguments import add_ray_arguments

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""The endings of the names of files that answers can be written to."""
TEXT, CSV, JSON_LINES = "text", "csv", "jsonl"
FORMATS = (TEXT, CSV, JSON_LINES)
"""The formats of printed answers."""

EXAMPLES = """\
Without --output, the answers are printed: as text in a terminal, as CSV elsewhere.

examples:
  allencv classify pets_bundle photo.jpg
  find photos -newer last.csv | allencv classify pets_bundle - --format jsonl
  allencv classify runs/pets/model.tar.gz photos -o answers.csv
  allencv classify pets_bundle 'photos/**/*.jpg' list.csv -o answers.jsonl --probabilities
  allencv classify posters_bundle posters -o answers.parquet --threshold 0.3 --fail-on-error
  allencv classify pets_bundle photos -o part-3.csv --shard 3/16"""

ON_CPU, ON_GPU = 8, 32
"""Default batch sizes. Larger ones are hardly faster, and take more memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `classify`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model", help="a model archive (model.tar.gz, or the folder of a run), or a bundle"
    )
    parser.add_argument(
        "paths",
        nargs="+",
        help="images, folders of images, patterns in quotes ('photos/**/*.jpg'), tables of paths "
        "(.csv, .tsv, .jsonl, .parquet, or .txt with a path in each line), or - for a path in each "
        "line of standard input. With --on ray also .tar files, and .parquet with images in "
        "--column",
    )
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        help=f"the file to write: {', '.join(SUFFIXES)}; it is created at the end. - prints CSV "
        "(default = print the answers). With --on ray: a new folder, for Parquet files",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="the format of printed answers (default = text in a terminal, or else csv)",
    )
    tables = parser.add_argument_group("tables")
    tables.add_argument(
        "--column",
        default="path",
        metavar="NAME",
        help="the column of paths (default = %(default)s)",
    )
    _add_many(parser.add_argument_group("many images"))
    _add_answers(parser.add_argument_group("answers"))
    _add_ends(parser.add_argument_group("errors and interruptions"))
    _add_models(parser.add_argument_group("speed and models"))


def _add_answers(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--top-k",
        type=int,
        default=TOP_K,
        metavar="K",
        help="the number of labels to list for each image (default = %(default)s)",
    )
    group.add_argument(
        "--probabilities", action="store_true", help="add the probabilities of all labels"
    )
    thresholds = group.add_mutually_exclusive_group()
    thresholds.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="for a model with any number of labels per image: list the labels whose probability "
        "is above P (default = the thresholds of the model)",
    )
    thresholds.add_argument(
        "--thresholds",
        metavar="FILE",
        help="a JSON file with a threshold by label; labels that it lacks keep the model's",
    )


def _add_many(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--shard",
        metavar="K/N",
        help="classify only part K of N, from 1/N to N/N; 'allencv join' joins the parts",
    )
    add_ray_arguments(group, "workers, each with the model (default = one for each GPU or core)")


def _add_ends(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fail-on-error",
        action="store_true",
        help="exit with status 1 if an image could not be classified; the output is still written",
    )
    group.add_argument(
        "--restart",
        action="store_true",
        help="start again; by default, the same command resumes an interrupted run",
    )


def _add_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help=f"images that the network processes at once (default = {ON_CPU} for a bundle on the "
        f"CPU, and {ON_GPU} for an archive or an NVIDIA GPU)",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=min(8, cpu_count()),
        metavar="N",
        help="threads that decode images (default = one for each core, at most 8)",
    )
    add_model_arguments(group)
    group.set_defaults(threads=None)  # of the network: as many as there are cores
