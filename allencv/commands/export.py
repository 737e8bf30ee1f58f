import argparse

from allencv.commands.shared_arguments import add_archive_file, add_overrides
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive

PRECISIONS = {"fp32": "float32", "fp16": "float16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_archive_file(parser)
    parser.add_argument("bundle", type=str, help="the folder to write")
    parser.add_argument(*("-f", "--force"), action="store_true", help="replace an existing bundle")
    add_overrides(parser, "-o")
    add_trust_archive(parser)
    _add_network(parser.add_argument_group("the network in the bundle"))
    _add_parity(parser.add_argument_group("comparison of the bundle with the archive"))
    _add_certainty(parser.add_argument_group("a calibrated model (see 'allencv calibrate')"))


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=("onnx", "torch_export"),
        default="onnx",
        help="a torch_export bundle needs torch to run (default = %(default)s)",
    )
    precision = group.add_mutually_exclusive_group()
    precision.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="fp16 halves the size of the file, but is not faster on a CPU (default = %(default)s)",
    )
    precision.add_argument(
        "--quantize",
        choices=("int8",),
        help="compute in 8 bits: faster, and a quarter of the size; needs --quantization-images",
    )
    group.add_argument(
        "--quantization-images",
        nargs="+",
        metavar="PATH",
        help="for int8: images like those to be classified, on which the ranges of the network's "
        "numbers are measured (files, folders, patterns or tables); they need no labels, and at "
        "most 256 are used",
    )
    # The name of before
    group.add_argument(
        "--calibration", dest="quantization_images", nargs="+", help=argparse.SUPPRESS
    )


def _add_parity(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--parity-images",
        nargs="+",
        metavar="PATH",
        help="the images to compare on: files, folders, patterns or tables (default = at most 500 "
        "of the config's validation images)",
    )
    group.add_argument(
        "--tolerance",
        type=float,
        metavar="DIFFERENCE",
        help="fail if a probability differs by more than this, from 0 to 1 (default = 0.0001; "
        "fp16: 0.02; int8: 1)",
    )
    group.add_argument(
        "--agreement",
        type=float,
        metavar="SHARE",
        help="fail if a smaller share of the images gets the same labels, from 0 to 1 (default = "
        "0.99; int8: 0.95)",
    )
    group.add_argument(
        "--no-parity", action="store_true", help="do not compare; the manifest records this"
    )


def _add_certainty(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--calibration-data",
        metavar="PATH",
        help="with --quantize int8, which is calibrated again: images with labels that did not "
        "train the model (default = DATA of 'allencv calibrate')",
    )
    group.add_argument(
        "--no-calibration", action="store_true", help="leave the calibration out of the bundle"
    )


def run(args: argparse.Namespace) -> None:
    from allencv.common.archives import load_archive
    from allencv.exporting import export_bundle
    from allencv.exporting.sample_images import given_images
    from allencv.runtime.certainty.files import JSON

    if args.no_parity and not (args.parity_images is args.tolerance is args.agreement is None):
        raise InputError(
            "--no-parity compares nothing; expected no --parity-images, --tolerance or --agreement"
        )
    if args.no_calibration and args.calibration_data is not None:
        raise InputError("--no-calibration uses no data; expected no --calibration-data")
    images = given_images(args.parity_images) if args.parity_images else None
    quantization = given_images(args.quantization_images) if args.quantization_images else None
    manifest = export_bundle(
        load_archive(args.archive_file, overrides=args.overrides, trusted=args.trust_archive),
        args.bundle,
        format=args.format,
        precision=args.quantize or PRECISIONS[args.precision],
        images=images,
        quantization_images=quantization,
        parity=not args.no_parity,
        tolerance=args.tolerance,
        least_agreement=args.agreement,
        force=args.force,
        certainty=not args.no_calibration,
        calibration_data=args.calibration_data,
    )
    print(f"{args.bundle}: {manifest.format}, {manifest.precision}, {len(manifest.labels)} labels")
    if manifest.quantization is not None:
        print(f"{manifest.precision}: {manifest.quantization}")
    parity = manifest.parity
    if parity is None:
        print("not compared with the archive")
    else:
        print(
            f"compared with the archive on {parity.images} images: {parity.agreement:.2%} have "
            f"the same labels; probabilities differ by at most {parity.largest_difference:.2g}"
        )
        if parity.decisions is not None:
            print(
                f"for {parity.decisions:.2%}, the set of labels is the same too, and whether the "
                "image is unknown and is answered"
            )
    if JSON in manifest.files:
        is_own = manifest.precision == "int8"
        own = "the bundle was calibrated again, as int8 changes the probabilities"
        print(own if is_own else "the bundle has the calibration of the archive")
