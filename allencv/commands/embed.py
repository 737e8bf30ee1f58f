import argparse
import sys
from typing import Any, Dict

from allencv.classify.arguments import ON_GPU
from allencv.commands.shared_arguments import add_details
from allencv.runtime.model_arguments import add_trust_archive
from allencv.runtime.plurals import numbered
from allencv.runtime.terminal import printable

IMAGES = (
    "images, folders of images, patterns in quotes ('photos/**/*.jpg'), tables of paths "
    "(.csv, .tsv, .jsonl, .parquet, or .txt with a path in each line), or - for a path in each "
    "line of standard input"
)
"""How images are named."""


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument `model`, which `open_encoder` takes."""
    parser.add_argument(
        "model",
        help="a model archive (model.tar.gz, or the folder of a run), a bundle, or the name of a "
        "pretrained network of torchvision or timm, such as resnet18",
    )


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how images become vectors."""
    parser.add_argument(
        "--column",
        default="path",
        metavar="NAME",
        help="the column of paths in tables (default = %(default)s)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="weights for the named network (default = the published ones)",
    )
    parser.add_argument(
        "--size",
        type=int,
        metavar="PIXELS",
        help="the height and width of the images for the named network (default = that of its "
        "weights)",
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        metavar="PRECISION",
        help="in which the named network computes: float32, or bfloat16, which is faster on "
        "processors with AMX and on GPUs (default = float32)",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=ON_GPU,
        metavar="N",
        help="images that the network processes at once (default = %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="threads that decode images (default = one for each core)",
    )
    parser.add_argument(
        "--device",
        help="cpu, cuda, cuda:1, ... (default = the first GPU, or else the CPU); not for a bundle, "
        "which runs on the CPU",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="compute all vectors and keep none; they are then not rounded to float16",
    )
    parser.add_argument(
        "--cache-gb",
        type=float,
        metavar="GB",
        help="the most GB that the kept vectors of all models may take; the least recently used go "
        "first (default = 20)",
    )
    add_trust_archive(parser, of="the archive's config, or the .pt2 file of a bundle,")


def vector_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the values of the options of `add_vector_options`, by the names of Python."""
    return {
        "column": args.column,
        "weights": args.weights,
        "size": args.size,
        "precision": args.precision,
        "batch_size": args.batch_size,
        "workers": args.workers,
        "device": args.device,
        "cache": not args.no_cache,
        "max_gb": args.cache_gb,
        "trusted": args.trust_archive,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "The vector of an image is the input of the model's last layer. Vectors are kept in "
        "$ALLENCV_FEATURES, by default ~/.cache/allencv/features, so that each image is computed "
        "once. An interrupted run resumes with the same command.",
    )
    add_model(parser)
    parser.add_argument("data", nargs="+", help=f"{IMAGES}. The folders in a folder are labels")
    parser.add_argument(
        *("-o", "--output"), required=True, metavar="FILE", help="the file to write: .parquet, .npz"
    )
    add_vector_options(parser)
    parser.add_argument(
        "--fail-on-error",
        action="store_true",
        help="exit with status 1 if an image could not be read; the output is still written",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start again; by default, the same command resumes an interrupted run",
    )


def run(args: argparse.Namespace) -> None:
    from allencv.features.embedding import embed

    embedded = embed(
        args.model,
        args.data,
        args.output,
        restart=args.restart,
        **vector_options(args),
    )
    if embedded.others:
        others, first = len(embedded.others), embedded.others[0]
        print(f"skipped files that are not images: {others} ({printable(first)} ...)")
    if embedded.repeated:
        print(f"images named several times, embedded once: {embedded.repeated}")
    images, errors = numbered(embedded.images, "image"), numbered(embedded.failed, "error", "no")
    known = f" ({embedded.known} kept from before)" if embedded.known else ""
    result = f"{args.output}: {images}{known}, {errors}"
    if embedded.failed and args.fail_on_error:
        sys.exit(f"allencv: {result}")
    print(result)
