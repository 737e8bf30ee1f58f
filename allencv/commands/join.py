import argparse

from allencv.commands.shared_arguments import add_details
from allencv.runtime.plurals import numbered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "The result is the file that one 'allencv classify' without --shard writes. All parts must "
        "be there, of the same images, model and options. Each part needs the .shard file that "
        "classify writes beside it.",
    )
    parser.add_argument("parts", nargs="+", metavar="PART", help="the outputs of all shards")
    parser.add_argument(
        *("-o", "--output"), required=True, metavar="FILE", help="the file to write"
    )


def run(args: argparse.Namespace) -> None:
    from allencv.classify.joining import join

    images = join(args.parts, args.output)
    print(f"{args.output}: {numbered(images, 'image')} of {numbered(len(args.parts), 'part')}")
