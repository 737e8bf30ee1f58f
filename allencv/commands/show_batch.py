import argparse
import warnings
from pathlib import Path

from allencv.commands.shared_arguments import add_config, add_overrides
from allencv.runtime.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        *("-o", "--output"),
        type=str,
        default="batch.png",
        help="the file to write: .png, .pdf, .svg or .jpg (default = %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="train",
        help="which data of the config to draw (default = %(default)s)",
    )
    parser.add_argument(
        "--count", type=int, default=8, help="the number of images (default = %(default)s)"
    )
    parser.add_argument(
        "--epoch",
        type=int,
        default=1,
        help="the epoch, from 1, which decides the order and the random transforms "
        "(default = %(default)s)",
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> None:
    from matplotlib.figure import Figure

    from allencv.catalogue import DATA_KEYS, read_config
    from allencv.reporting.batch_picture import DPI, draw_page, image_pairs
    from allencv.runtime.whole_files import whole_file

    for key, value, least in (("count", args.count, 1), ("epoch", args.epoch, 1)):
        if value < least:
            raise InputError(f"--{key} is {value}; expected at least {least}")
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(args.output).suffix[1:].lower() not in kinds:
        raise InputError(
            f"--output is '{args.output}'; expected a name that ends in one of {', '.join(kinds)}"
        )
    params = read_config(args.param_path, args.overrides, DATA_KEYS)
    shown = image_pairs(params, args.split, args.count, args.epoch - 1)
    title = f"{Path(args.param_path).name}: {args.split} data, epoch {args.epoch}"
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), whole_file(args.output) as temporary:
        warnings.filterwarnings("ignore", "Glyph")  # the font may lack letters of a name
        draw_page(shown, title).savefig(temporary, dpi=DPI)
    print(f"{args.output}: {len(shown)} images of the {args.split} data")
