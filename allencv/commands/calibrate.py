import argparse
from typing import Any, Optional

from allencv.commands.shared_arguments import add_archive_file, add_details
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive

NONE = "none"
CALIBRATIONS = ("temperature", "platt", NONE)
SETS = ("lac", "aps", "raps", NONE)
SCORES = ("auto", "max_probability", "energy", "mahalanobis", "nearest", NONE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "The images must have labels, and must be neither training nor validation images. The "
        "results are stored in the archive, and 'classify', 'serve', 'export' and Python use them "
        "(see docs/unsure.md). Example: allencv calibrate runs/pets pets/calibration "
        "--target-accuracy 0.99",
    )
    add_archive_file(parser)
    parser.add_argument(
        "data",
        help="the images: a path like validation_data_path in the archive's config (JSON if that "
        "is an object)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="change nothing: show how well a calibrated archive keeps its promises on these "
        "images. Use images that took part in neither training nor calibration. Of the other "
        "options only --device and --trust-archive go with it",
    )
    parser.add_argument(
        "--probabilities",
        choices=CALIBRATIONS,
        help="how to calibrate the probabilities (default = temperature; for several labels an "
        "image platt)",
    )
    sets = parser.add_argument_group("sets of labels")
    sets.add_argument(
        "--sets",
        choices=SETS,
        default="lac",
        help="the method, for one label an image (default = %(default)s)",
    )
    sets.add_argument(
        "--levels",
        type=float,
        nargs="+",
        default=[0.95],
        metavar="SHARE",
        help="the share of images whose set holds the right label; for several labels an image, "
        "the share of its labels. Answers use the first level (default = 0.95)",
    )
    sets.add_argument(
        "--by-class",
        action="store_true",
        help="reach the levels for the images of each label, not only for all images together",
    )
    answers = parser.add_argument_group("which images to answer")
    answers.add_argument(
        "--target-accuracy",
        type=float,
        metavar="SHARE",
        help="the share of the answers that are right; images with too little confidence are not "
        "answered (default = answer all that are not unknown)",
    )
    answers.add_argument(
        "--certainty",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="how certain it is that this share is reached (default = %(default)s)",
    )
    unknown = parser.add_argument_group("images unlike the training data")
    unknown.add_argument(
        "--unknown",
        choices=SCORES,
        default="auto",
        help="the score that finds them (default = auto: nearest if the encoder is frozen, energy "
        "if it was trained); mahalanobis and nearest use the training images",
    )
    unknown.add_argument(
        "--known-share",
        type=float,
        default=0.95,
        metavar="SHARE",
        help="the share of images like these that are not called unknown (default = %(default)s)",
    )
    unknown.add_argument(
        "--train-data",
        metavar="PATH",
        help="the training images (default = train_data_path of the archive's config)",
    )
    unknown.add_argument(
        "--unknown-images",
        nargs="+",
        metavar="PATH",
        help="images of other things, to measure how many of them are called unknown",
    )
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, ... (default = the first GPU, or else the CPU)"
    )
    add_trust_archive(parser)


def run(args: argparse.Namespace) -> None:
    if args.check:
        _run_check(args)
        return
    for option in ("target_accuracy", "certainty", "known_share"):
        _check(f"--{option.replace('_', '-')}", getattr(args, option))
    for level in args.levels:
        _check("--levels", level)
    if args.unknown == NONE and args.unknown_images:
        raise InputError("--unknown-images measures a score, and --unknown is none; leave one out")

    from allencv.certainty.calibrate import calibrate
    from allencv.certainty.calibrations import Calibration
    from allencv.certainty.fit_certainty import Wanted
    from allencv.certainty.summary import lines_of
    from allencv.certainty.unknown_scores import UnknownScore

    wanted = Wanted(
        calibration=_named(Calibration, args.probabilities),
        default_calibration=args.probabilities is None,
        sets=None if args.sets == NONE else args.sets,
        levels=args.levels,
        by_class=args.by_class,
        target_accuracy=args.target_accuracy,
        certainty=args.certainty,
        known_share=args.known_share,
    )
    calibrated = calibrate(
        args.archive_file,
        _data_path(args.data),
        wanted,
        score=_named(UnknownScore, args.unknown),
        train_data=args.train_data,
        unknown_images=args.unknown_images,
        device=args.device,
        trusted=args.trust_archive,
    )
    print("\n".join(lines_of(calibrated)))
    print(f"written: {', '.join(map(str, calibrated.written))}")


def _run_check(args: argparse.Namespace) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    usual = vars(parser.parse_args(["-", "-", "--check"]))
    for name in sorted(usual.keys() - {"archive_file", "data", "device", "trust_archive"}):
        if getattr(args, name) != usual[name]:
            raise InputError(
                f"--{name.replace('_', '-')} has no effect with --check, which changes nothing; "
                "expected only --device and --trust-archive with it"
            )

    from allencv.certainty.check_calibration import check_calibration
    from allencv.certainty.summary import lines_of_check

    data = _data_path(args.data)
    checked = check_calibration(args.archive_file, data, args.device, args.trust_archive)
    print("\n".join(lines_of_check(checked)))


def _data_path(text: str) -> Any:
    from allencv.common.data_paths import data_of_text

    try:
        return data_of_text(text)
    except ValueError as error:
        raise InputError(f"DATA is {text}, which is not JSON ({error}); expected a path") from None


def _named(base: Any, name: Optional[str]) -> Any:
    return None if name in (None, NONE) else base.by_name(name)()


def _check(option: str, share: Optional[float]) -> None:
    if share is not None and not 0 < share < 1:
        raise InputError(f"{option} is {share:g}; expected a number between 0 and 1")
