"""
The command `classify`: classify images with a bundle or any other `Classifier`, and print the
answers or write a table of them.
"""

import argparse
import logging
import os
import sys
from functools import partial
from typing import Callable, Dict, Optional, Sequence, Tuple

from allencv.classify.answers import answers
from allencv.classify.arguments import CSV, ON_CPU, ON_GPU, SUFFIXES, TEXT
from allencv.classify.on_ray import classify_on_ray, with_images_inside
from allencv.classify.output_files import (
    LABELS_DELIMITER,
    columns,
    suffix_of,
    write_answers,
)
from allencv.classify.partial_output import UnfinishedRun, interruptible
from allencv.classify.printed_answers import print_answers, set_level
from allencv.classify.progress import ProgressBar
from allencv.classify.shards import (
    describe_part,
    file_sizes,
    forget_part,
    images_of,
    list_digest,
    parse_shard,
)
from allencv.classify.thresholds import given_thresholds
from allencv.runtime.bundle import is_bundle
from allencv.runtime.classifier import Classifier
from allencv.runtime.cpu_count import MAX_WORKERS, cpu_count
from allencv.runtime.defaults import CUDA_ENGINES, DEFAULT_ENGINE
from allencv.runtime.errors import InputError
from allencv.runtime.image_files import ImageFile, ImageFiles, list_images
from allencv.runtime.model_arguments import open_bundle_of
from allencv.runtime.path_tables import import_pyarrow
from allencv.runtime.plurals import numbered
from allencv.runtime.ray_arguments import RAY
from allencv.runtime.terminal import printable

STANDARD_OUTPUT = "-"
OpenModel = Callable[[argparse.Namespace], Tuple[Classifier, str]]
"""Opens the model that a command names, and returns its checksum too."""


def open_bundle_model(args: argparse.Namespace) -> Tuple[Classifier, str]:
    """Open a bundle. Raise `BundleError`, or `InputError` for arguments of archives."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("allencv.runtime").setLevel(logging.INFO)  # which engine "auto" chooses
    classifier = open_bundle_of(args, threads=args.threads or cpu_count())
    return classifier, classifier.checksum


def run(args: argparse.Namespace, open_model: OpenModel = open_bundle_model) -> None:
    """
    Classify the images that the arguments name.

    # Raises

    `InputError` for arguments that cannot be used. `SystemExit` with a message, with
    `--fail-on-error`, if an image could not be classified; with a number if interrupted.
    """
    format = _printed_format(args)
    _check(args)
    if args.on is None:
        listed = list_images(args.paths, args.column)
    else:
        inside, args.paths = with_images_inside(args.paths, args.column)
        listed = list_images(args.paths, args.column)
    # What is printed in place of answers must not be among them.
    said_to = sys.stdout if format is None else sys.stderr
    if listed.others:
        others, first = len(listed.others), listed.others[0]
        print(f"skipped files that are not images: {others} ({printable(first)} ...)", file=said_to)
    if listed.repeated:
        print(f"images named several times, classified once: {listed.repeated}", file=said_to)
    may_use_gpu = not is_bundle(args.model) or args.engine in CUDA_ENGINES
    if args.batch_size is None:
        args.batch_size = ON_GPU if may_use_gpu else ON_CPU
    if args.on is None:
        classifier, checksum = open_with_options(args, open_model)
        _check_labels(classifier, f"answers.{format}" if format else args.output)
        if format is None:
            count, failed = _write(args, classifier, checksum, listed.images)
        else:
            count, failed = len(listed.images), _print(args, format, classifier, listed)
    else:
        opened = partial(open_with_options, open_model=open_model)
        count, failed = classify_on_ray(args, opened, may_use_gpu, listed.images, inside)
    images, errors = numbered(count, "image"), numbered(failed, "error", "no")
    result = f"{images}, {errors}" if format else f"{args.output}: {images}, {errors}"
    if failed and args.fail_on_error:
        sys.exit(f"allencv: {result}")
    if format is None or (failed and format != TEXT):
        print(result, file=said_to)


def open_with_options(args: argparse.Namespace, open_model: OpenModel) -> Tuple[Classifier, str]:
    """
    Open the model, with the thresholds of the arguments. Limit `top_k` to its labels. Return its
    checksum too.
    """
    classifier, checksum = open_model(args)
    classifier.thresholds = given_thresholds(classifier, args.threshold, args.thresholds)
    args.top_k = min(args.top_k, len(classifier.labels))
    return classifier, checksum


def _columns(args: argparse.Namespace, classifier: Classifier) -> Dict[str, str]:
    return columns(
        classifier.labels,
        classifier.multi_label,
        args.top_k,
        args.probabilities,
        classifier.certainty,
    )


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
    level = set_level(classifier.certainty)
    print_answers(format, kinds, labels, listed.images, progress.counted(batches), level)
    return progress.failed


def _write(
    args: argparse.Namespace, classifier: Classifier, checksum: str, images: Sequence[ImageFile]
) -> Tuple[int, int]:
    """
    Write the answers to a file, or resume to, for all images or one shard of them. Return the
    number of images, and of those that could not be classified.
    """
    header: Dict[str, object] = {
        "model": checksum,
        "--engine": args.engine or DEFAULT_ENGINE,
        "--top-k": args.top_k,
        "--probabilities": args.probabilities,
        "thresholds": classifier.thresholds,
    }
    shard = None if args.shard is None else parse_shard(args.shard)
    if shard is not None:
        digest = list_digest(image.name for image in images)
        sizes = file_sizes(images)
        header["--batch-size"] = args.batch_size
        images = images_of(shard, images, args.batch_size)
    try:
        os.makedirs(os.path.dirname(args.output) or ".", exist_ok=True)
        unfinished = UnfinishedRun(f"{args.output}.part", header, args.restart)
        with interruptible(unfinished):
            left = [image for image in images if not unfinished.has(image)]
            progress = ProgressBar(len(images), len(images) - len(left))
            batches = answers(
                classifier, left, args.batch_size, args.workers, args.top_k, args.probabilities
            )
            for records in progress.counted(batches):
                unfinished.add(records)
            kinds = _columns(args, classifier)
            forget_part(args.output)
            write_answers(args.output, kinds, unfinished.records(images))
            if shard is not None:
                describe_part(args.output, shard, digest, sizes, header, kinds)
            unfinished.remove()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"'{args.output}' cannot be written: {reason}") from error
    return len(images), progress.failed


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
        ("--parallel", args.parallel),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
    if args.workers > MAX_WORKERS:
        raise InputError(f"--workers is {args.workers}; expected at most {MAX_WORKERS}")
    if args.shard is not None:
        parse_shard(args.shard)
    if args.on is not None:
        _check_on_ray(args)
        return
    if args.parallel is not None:
        raise InputError(f"--parallel is {args.parallel}; expected it with --on {RAY} alone")
    if args.output in (None, STANDARD_OUTPUT):
        if args.shard is not None:
            raise InputError(f"--shard {args.shard} needs a file to write; expected --output FILE")
        return
    folder = os.path.dirname(args.output) or "."
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"'{args.output}' cannot be written: '{folder}' is not a folder")
    if suffix_of(args.output) not in SUFFIXES or os.path.isdir(args.output):
        raise InputError(
            f"--output is '{args.output}'; expected a file whose name ends in {', '.join(SUFFIXES)}"
        )
    if suffix_of(args.output) == ".parquet":
        import_pyarrow(args.output)  # raises an error now rather than at the end
    if os.path.abspath(args.output) in map(os.path.abspath, args.paths):
        raise InputError(f"--output is '{args.output}', also an input; expected another file")


def _check_on_ray(args: argparse.Namespace) -> None:
    for option, is_given in (("--shard", args.shard), ("--restart", args.restart)):
        if is_given:
            raise InputError(f"--on {RAY} has no {option}; expected one of the two")
    if args.output in (None, STANDARD_OUTPUT):
        raise InputError(f"--on {RAY} needs a folder to write; expected --output FOLDER")
    if suffix_of(args.output) in SUFFIXES:
        raise InputError(
            f"--output is '{args.output}'; expected a folder, for Parquet files, with --on {RAY}"
        )
    if os.path.exists(args.output) and not (
        os.path.isdir(args.output) and not os.listdir(args.output)
    ):
        raise InputError(f"--output '{args.output}' exists; expected a new or an empty folder")


def _check_labels(classifier: Classifier, output: str) -> None:
    certainty = classifier.certainty
    has_several = classifier.multi_label or (certainty is not None and certainty.sets is not None)
    for label in classifier.labels if has_several else ():
        if LABELS_DELIMITER in label and suffix_of(output) == ".csv":
            raise InputError(
                f"the model has the label {label!r}, but '{LABELS_DELIMITER}' separates the labels "
                "of an image in a .csv file; expected an --output in .jsonl or .parquet"
            )
