import argparse
from pathlib import Path

from allencv.commands.shared_arguments import add_archive_file, add_overrides
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_archive_file(parser)
    parser.add_argument("image", type=str, help="the path or URL of an image")
    parser.add_argument(
        *("-o", "--output"),
        type=str,
        default="cam.png",
        help="the image file to write (default = %(default)s)",
    )
    parser.add_argument(
        "--label", type=str, help="the label to explain (default = the most probable one)"
    )
    add_overrides(parser)
    add_trust_archive(parser)


def run(args: argparse.Namespace) -> None:
    from PIL import Image

    from allencv.common.archives import load_archive
    from allencv.common.nearest_names import not_one_of
    from allencv.reporting.explain import explain
    from allencv.runtime.whole_files import whole_file

    output = Path(args.output)
    if output.is_dir():
        raise InputError(f"--output '{output}' is a folder; expected the name of a file")
    formats = Image.registered_extensions()
    if output.suffix.lower() not in formats:
        raise not_one_of("the ending of --output", output.suffix, [".png", ".jpg", ".webp"])
    archive = load_archive(args.archive_file, overrides=args.overrides, trusted=args.trust_archive)
    found = explain(archive, args.image, args.label)
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as temporary:
        found.picture.save(temporary)
    print(f"{found.label}, {found.probability:.1%}: {output}")
