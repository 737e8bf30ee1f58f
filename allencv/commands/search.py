import argparse
from pathlib import Path

from allencv.commands.embed import IMAGES, add_model, add_vector_options, vector_options
from allencv.commands.shared_arguments import add_details
from allencv.runtime.errors import InputError
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import printable

OUTPUTS = (".html", ".jsonl")
MOST_ERRORS = 3
"""The most images of the data that are named because they cannot be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "Images are compared by the cosine of their vectors, which 'allencv embed --help' "
        "describes: 1 for copies. An image is not compared with its own file. Example: allencv "
        "search resnet18 photo.jpg --in photos",
    )
    add_model(parser)
    parser.add_argument("images", nargs="+", help="the images to search for, given as for --in")
    parser.add_argument(
        "--in",
        nargs="+",
        required=True,
        dest="data",
        metavar="DATA",
        help=f"the images to search: {IMAGES}; or a file that 'allencv embed' has written with the "
        "same model. The folders in a folder are labels. Give it after the images to search for",
    )
    parser.add_argument(
        *("-n", "--count"),
        type=int,
        default=10,
        metavar="N",
        help="the number of images to find for each image (default = %(default)s)",
    )
    parser.add_argument(
        *("-o", "--output"),
        metavar="FILE",
        help="the file to write: .html for a page with the images, or .jsonl (default = print)",
    )
    add_vector_options(parser)


def run(args: argparse.Namespace) -> None:
    output = None if args.output is None else Path(args.output)
    if output is not None and (output.suffix.lower() not in OUTPUTS or output.is_dir()):
        raise InputError(
            f"--output is '{output}'; expected a file whose name ends in {', '.join(OUTPUTS)}"
        )

    from allencv.features.search import search
    from allencv.reporting.search_text import as_json_lines, as_text
    from allencv.runtime.whole_files import write_text

    found = search(
        args.model,
        args.images,
        args.data,
        count=args.count,
        **vector_options(args),
    )
    if found.others:
        others, first = len(found.others), found.others[0]
        print(f"skipped files that are not images: {others} ({printable(first)} ...)")
    if found.errors:
        print(f"images that cannot be compared: {len(found.errors)}")
        for reason in list(found.errors.values())[:MOST_ERRORS]:
            print(f"  {printable(reason)}")
    if output is None:
        print(as_text(found))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.suffix.lower() == ".html":
        from allencv.reporting.search_html import as_html

        write_text(output, as_html(found), errors="replace")
    else:
        write_text(output, as_json_lines(found))
    queries, images = numbered(len(found.queries), "image"), numbered(found.images, "image")
    print(f"{output}: {queries} compared with {images}")
