"""
The command `classify`: classify images with a bundle or any other `Classifier`, and print the
answers or write a table of them.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

from allencv.classify.answers import answers
from allencv.classify.output_files import (
    LABELS_DELIMITER,
    WRITERS,
    columns,
    suffix_of,
    write_answers,
)
from allencv.classify.partial_output import UnfinishedRun, interruptible
from allencv.classify.printed_answers import CSV, FORMATS, TEXT, print_answers
from allencv.classify.progress import ProgressBar
from allencv.classify.thresholds import given_thresholds
from allencv.runtime.classifier import TOP_K, Classifier
from allencv.runtime.cpu_count import MAX_WORKERS, cpu_count
from allencv.runtime.engine_names import DEFAULT_ENGINE
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFiles, list_images
from allencv.runtime.model_arguments import add_model_arguments, open_bundle_of
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.plurals import numbered

EXAMPLES = """\
Without --output, the answers are printed: as text in a terminal, as CSV elsewhere.

examples:
  allencv classify pets_bundle photo.jpg
  find photos -newer last.csv | allencv classify pets_bundle - --format jsonl
  allencv classify runs/pets/model.tar.gz photos -o answers.csv
  allencv classify pets_bundle 'photos/**/*.jpg' list.csv -o answers.jsonl --probabilities
  allencv classify posters_bundle posters -o answers.parquet --threshold 0.3 --fail-on-error"""

ON_CPU, ON_GPU = 8, 32
"""Default batch sizes. Larger ones are hardly faster, and take more memory."""

STANDARD_OUTPUT = "-"
OpenModel = Callable[[argparse.Namespace], Tuple[Classifier, str]]
"""Opens the model that a command names, and returns its checksum too."""


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
        "line of standard input",
    )
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        help=f"the file to write: {', '.join(WRITERS)}; it is created at the end. - prints CSV "
        "(default = print the answers)",
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
        help=f"images that the network processes at once (default = {ON_CPU} for a bundle, which "
        f"runs on the CPU, and {ON_GPU} for an archive)",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=min(8, cpu_count()),
        metavar="N",
        help="threads that decode images (default = one for each core, at most 8)",
    )
    add_model_arguments(group)


def open_bundle_model(args: argparse.Namespace) -> Tuple[Classifier, str]:
    """Open a bundle. Raise `BundleError`, or `InputError` for arguments of archives."""
    from allencv.runtime.bundle import MANIFEST, sha256_of

    logging.basicConfig(format="%(message)s")
    logging.getLogger("allencv.runtime").setLevel(logging.INFO)  # which engine "auto" chooses
    classifier = open_bundle_of(args, threads=cpu_count())
    return classifier, sha256_of(Path(args.model) / MANIFEST)


def run(args: argparse.Namespace, open_model: OpenModel = open_bundle_model) -> None:
    """
    Classify the images that the arguments name.

    # Raises

    `InputError` for arguments that cannot be used. `SystemExit` with a message, with
    `--fail-on-error`, if an image could not be classified; with a number if interrupted.
    """
    format = _printed_format(args)
    _check(args)
    listed = list_images(args.paths, args.column)
    # What is printed in place of answers must not be among them.
    said_to = sys.stdout if format is None else sys.stderr
    if listed.others:
        count, first = len(listed.others), listed.others[0]
        print(f"skipped files that are not images: {count} ({first} ...)", file=said_to)
    if listed.repeated:
        print(f"images named several times, classified once: {listed.repeated}", file=said_to)
    classifier, checksum = open_model(args)
    if args.batch_size is None:
        args.batch_size = ON_CPU if open_model is open_bundle_model else ON_GPU
    classifier.thresholds = given_thresholds(classifier, args.threshold, args.thresholds)
    args.top_k = min(args.top_k, len(classifier.labels))
    _check_labels(classifier, f".{format}" if format else args.output)
    if format is None:
        failed = _write(args, classifier, checksum, listed)
    else:
        failed = _print(args, format, classifier, listed)
    images, errors = numbered(len(listed.images), "image"), numbered(failed, "error", "no")
    result = f"{images}, {errors}" if format else f"{args.output}: {images}, {errors}"
    if failed and args.fail_on_error:
        sys.exit(f"allencv: {result}")
    if format is None or (failed and format != TEXT):
        print(result, file=said_to)


def _columns(args: argparse.Namespace, classifier: Classifier) -> Dict[str, str]:
    return columns(classifier.labels, classifier.multi_label, args.top_k, args.probabilities)


def _print(
    args: argparse.Namespace, format: str, classifier: Classifier, listed: ImageFiles
) -> int:
    """Print the answers. Return the number of images that could not be classified."""
    progress = ProgressBar(len(listed.images), is_shown=not sys.stdout.isatty())
    top_k = len(classifier.labels) if format == TEXT and args.probabilities else args.top_k
    batches = answers(
        classifier, listed.images, args.batch_size, args.workers, top_k, args.probabilities
    )
    kinds, labels = _columns(args, classifier), classifier.labels
    print_answers(format, kinds, labels, listed.images, progress.counted(batches))
    return progress.failed


def _write(
    args: argparse.Namespace, classifier: Classifier, checksum: str, listed: ImageFiles
) -> int:
    """
    Write the answers to a file, or resume to. Return the number of images that could not be
    classified.
    """
    header = {
        "model": checksum,
        "--engine": args.engine or DEFAULT_ENGINE,
        "--top-k": args.top_k,
        "--probabilities": args.probabilities,
        "thresholds": classifier.thresholds,
    }
    try:
        os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
        unfinished = UnfinishedRun(f"{args.output}.part", header, args.restart)
        with interruptible(unfinished):
            left = [image for image in listed.images if not unfinished.has(image)]
            progress = ProgressBar(len(listed.images), len(listed.images) - len(left))
            batches = answers(
                classifier, left, args.batch_size, args.workers, args.top_k, args.probabilities
            )
            for records in progress.counted(batches):
                unfinished.add(records)
            kinds = _columns(args, classifier)
            write_answers(args.output, kinds, unfinished.records(listed.images))
            unfinished.remove()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"'{args.output}' cannot be written: {reason}") from error
    return progress.failed


def _printed_format(args: argparse.Namespace) -> Optional[str]:
    """Return the format of printed answers, or `None` if they go to a file."""
    if args.output is None:
        return args.format or (TEXT if sys.stdout.isatty() else CSV)
    if args.output == STANDARD_OUTPUT:
        return args.format or CSV
    if args.format is not None:
        raise InputError(
            f"--format is {args.format}, but --output '{args.output}' has the format of its "
            "suffix; expected one of them"
        )
    return None


def _check(args: argparse.Namespace) -> None:
    for name, value in (
        ("--top-k", args.top_k),
        ("--batch-size", args.batch_size),
        ("--workers", args.workers),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    if args.workers > MAX_WORKERS:
        raise InputError(f"--workers is {args.workers}; expected at most {MAX_WORKERS}")
    if args.output in (None, STANDARD_OUTPUT):
        return
    folder = os.path.dirname(args.output) or "."
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"'{args.output}' cannot be written: '{folder}' is not a folder")
    if suffix_of(args.output) not in WRITERS or os.path.isdir(args.output):
        raise InputError(
            f"--output is '{args.output}'; expected a file whose name ends in {', '.join(WRITERS)}"
        )
    if suffix_of(args.output) == ".parquet":
        import_pyarrow(args.output)  # raises an error now rather than at the end
    if os.path.abspath(args.output) in map(os.path.abspath, args.paths):
        raise InputError(f"--output is '{args.output}', also an input; expected another file")


def _check_labels(classifier: Classifier, output: str) -> None:
    for label in classifier.labels if classifier.multi_label else ():
        if LABELS_DELIMITER in label and suffix_of(output) == ".csv":
            raise InputError(
                f"the model has the label {label!r}, but '{LABELS_DELIMITER}' separates the labels "
                "of an image in a .csv file; expected an --output in .jsonl or .parquet"
            )
