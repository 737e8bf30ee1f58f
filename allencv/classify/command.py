"""
The command `classify`: classify many images with a bundle or any other `Classifier`, and write a
table of the answers.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Callable, Tuple

from allencv.classify.answers import answers
from allencv.classify.output_files import (
    LABELS_DELIMITER,
    WRITERS,
    columns,
    suffix_of,
    write_answers,
)
from allencv.classify.partial_output import UnfinishedRun, interruptible
from allencv.classify.progress import ProgressBar
from allencv.classify.thresholds import given_thresholds
from allencv.runtime.classifier import TOP_K, Classifier
from allencv.runtime.cpu_count import MAX_WORKERS, cpu_count
from allencv.runtime.engine_names import DEFAULT_ENGINE
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import list_images
from allencv.runtime.model_arguments import add_model_arguments, open_bundle_of
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.plurals import numbered

EXAMPLES = """\
examples:
  allencv classify runs/pets/model.tar.gz photos -o answers.csv
  allencv classify pets_bundle 'photos/**/*.jpg' list.csv -o answers.jsonl --probabilities
  allencv classify posters_bundle posters -o answers.parquet --threshold 0.3 --fail-on-error"""

ON_CPU, ON_GPU = 8, 32
"""Default batch sizes. Larger ones are hardly faster, and take more memory."""

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
        help="images, folders of images, patterns in quotes ('photos/**/*.jpg'), or tables of "
        "paths (.csv, .tsv, .jsonl, .parquet, or .txt with a path in each line)",
    )
    parser.add_argument(
        *("-o", "--output"),
        required=True,
        metavar="FILE",
        help=f"the file to write: {', '.join(WRITERS)}; it is created at the end",
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
    _check(args)
    listed = list_images(args.paths, args.column)
    if listed.others:
        print(f"skipped files that are not images: {len(listed.others)} ({listed.others[0]} ...)")
    if listed.repeated:
        print(f"images named several times, classified once: {listed.repeated}")
    classifier, checksum = open_model(args)
    batch_size = args.batch_size or (ON_CPU if open_model is open_bundle_model else ON_GPU)
    classifier.thresholds = given_thresholds(classifier, args.threshold, args.thresholds)
    top_k = min(args.top_k, len(classifier.labels))
    kinds = columns(classifier.labels, classifier.multi_label, top_k, args.probabilities)
    _check_labels(classifier, args.output)
    header = {
        "model": checksum,
        "--engine": args.engine or DEFAULT_ENGINE,
        "--top-k": top_k,
        "--probabilities": args.probabilities,
        "thresholds": classifier.thresholds,
    }
    try:
        os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
        unfinished = UnfinishedRun(f"{args.output}.part", header, args.restart)
        with interruptible(unfinished):
            left = [image for image in listed.images if not unfinished.has(image)]
            progress = ProgressBar(len(listed.images), len(listed.images) - len(left))
            for records in answers(
                classifier, left, batch_size, args.workers, top_k, args.probabilities
            ):
                unfinished.add(records)
                progress.add(len(records), sum("error" in record for record in records))
            progress.close()
            write_answers(args.output, kinds, unfinished.records(listed.images))
            unfinished.remove()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"'{args.output}' cannot be written: {reason}") from error
    images = numbered(progress.total, "image", "no")
    errors = numbered(progress.failed, "error", "no")
    result = f"{args.output}: {images}, {errors}"
    print(result)
    if progress.failed and args.fail_on_error:
        sys.exit(f"allencv: {result}")


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
