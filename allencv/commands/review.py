import argparse
from contextlib import closing
from typing import Any

from allencv.commands.check_data import splits_of
from allencv.commands.embed import IMAGES
from allencv.commands.fit import add_layout_arguments, add_root, add_task
from allencv.commands.shared_arguments import add_details, add_overrides
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import printable

SUFFIX = ".csv"
MOST_ERRORS = 3
"""The most images that are named because they cannot be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "It shows the most useful images first: images whose label may be wrong, then images "
        "without a label that the model is unsure about or that are unlike the others. The page is "
        "on this machine only. Each answer is saved at once, and the same command resumes a "
        "review. The reader 'corrected' reads the answers. Example: allencv review runs/pets "
        "new_photos --labelled pets/train -o corrections.csv",
    )
    parser.add_argument("model", help="a model archive (model.tar.gz, or the folder of a run)")
    parser.add_argument(
        "images",
        nargs="*",
        help=f"images without labels: {IMAGES}. Give them right after the model",
    )
    parser.add_argument(
        *("-o", "--output"),
        required=True,
        metavar="FILE",
        help="the file for the answers (.csv); an existing one is continued",
    )
    parser.add_argument(
        "--labelled",
        dest="data",
        metavar="CONFIG_OR_DATA",
        help="images with labels, to find wrong ones: a config, or a folder, a table, a list or "
        "the name of a torchvision dataset, as for 'allencv fit'",
    )
    parser.add_argument(
        "--new-label",
        action="append",
        default=[],
        metavar="LABEL",
        help="a label to offer that neither the model nor the data have. Repeat the option for "
        "several labels",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="the port of the page (default = any free port)"
    )
    parser.add_argument(
        "--column",
        default="path",
        metavar="NAME",
        help="the column of paths in tables of images without labels (default = %(default)s)",
    )
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, ... (default = the first GPU, or else the CPU)"
    )
    add_trust_archive(parser)
    data = parser.add_argument_group("how to read --labelled (by default inferred and printed)")
    add_overrides(data, when="for a config: ")
    add_task(data)
    add_root(data)
    add_layout_arguments(parser)


def run(args: argparse.Namespace) -> None:
    if not args.output.lower().endswith(SUFFIX):
        raise InputError(
            f"--output is '{args.output}'; expected a file whose name ends in {SUFFIX}"
        )
    if not all(label.strip() for label in args.new_label):
        raise InputError("--new-label is empty; expected a label")
    if not args.images and args.data is None:
        raise InputError("there is nothing to review; expected images, or --labelled")

    from allencv.predictors.archive_classifier import ArchiveClassifier
    from allencv.reviewing.answers_file import AnswersFile
    from allencv.reviewing.prepare import described, prepare_review
    from allencv.reviewing.server import serve_review
    from allencv.reviewing.session import ReviewSession

    images = _images(args)
    splits = [] if args.data is None else splits_of(args)
    model = ArchiveClassifier(args.model, args.device, args.trust_archive)
    with closing(AnswersFile(args.output, model.multi_label)) as answers:
        review = prepare_review(model, images, splits, args.new_label)
        if review.errors:
            print(f"images that cannot be shown: {len(review.errors)}")
            for reason in list(review.errors.values())[:MOST_ERRORS]:
                print(f"  {printable(reason)}")
        for note in review.notes:
            print(note)
        session = ReviewSession(
            model.name, review.labels, model.multi_label, review.queue, review.labelled, answers
        )
        print(f"In order: {described(review)}")
        before = session.answered
        if before:
            print(f"Answered before: {before} (in {args.output})")
        if session.left:
            serve_review(session, args.port)
    new, left = session.answered - before, numbered(session.left, "image", "no")
    print(f"{args.output}: {numbered(new, 'new answer', 'no')}, {left} left")


def _images(args: argparse.Namespace) -> Any:
    """Return the images without labels."""
    from allencv.runtime.image_files import list_images

    if not args.images:
        return []
    listed = list_images(args.images, args.column)
    if listed.others:
        others, first = len(listed.others), listed.others[0]
        print(f"skipped files that are not images: {others} ({printable(first)} ...)")
    return listed.images
