import argparse
from pathlib import Path

from allencv.commands.shared_arguments import (
    add_cuda_device,
    add_details,
    add_overrides,
    check_cuda_device,
)
from allencv.runtime.errors import InputError
from allencv.runtime.model_arguments import add_trust_archive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_details(
        parser,
        "The page is a single HTML file. It is made from the files in the run's folder, "
        "without the images, unless --evaluate or --similar is given.",
    )
    parser.add_argument("run", type=str, help="the folder of a run (--serialization-dir)")
    parser.add_argument(
        *("-o", "--output"),
        type=str,
        help="the file to write (default = report.html in the folder of the run)",
    )
    parser.add_argument(
        "--evaluate",
        nargs="?",
        const="validation",
        choices=("validation", "test"),
        help="first compute and write the model's predictions for these images of the config, "
        "as training does at its end (without a value: validation)",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=12,
        help="with --evaluate: the number of pictures of each kind (default = %(default)s)",
    )
    parser.add_argument(
        "--similar",
        nargs="?",
        type=int,
        const=3,
        metavar="N",
        help="show the N most similar training images below each mistake (without a value: "
        "%(const)s). The first time, the model computes all training images; their vectors are "
        "kept, as by 'allencv embed'",
    )
    when = "with --evaluate or --similar: "
    add_cuda_device(parser, when)
    add_overrides(parser, when=when, such_as=", such as new paths of the images")
    add_trust_archive(parser, when=when)


def run(args: argparse.Namespace) -> None:
    from allencv.reporting.evaluate_run import evaluate_run
    from allencv.reporting.findings import run_findings
    from allencv.reporting.run_folder import read_run
    from allencv.reporting.run_html import as_html
    from allencv.runtime.whole_files import write_text

    output = Path(args.output or Path(args.run) / "report.html")
    if output.is_dir():
        raise InputError(f"--output '{output}' is a folder; expected the name of a file")
    if args.pictures < 0:
        raise InputError(f"--pictures is {args.pictures}; expected at least 0")
    if args.similar is not None and args.similar < 1:
        raise InputError(f"--similar is {args.similar}; expected at least 1")
    if args.evaluate is not None or args.similar is not None:
        check_cuda_device(args.cuda_device)
    if args.evaluate is not None:
        written = evaluate_run(
            args.run,
            args.evaluate,
            args.pictures,
            args.cuda_device,
            args.overrides,
            args.trust_archive,
        )
        print(f"predictions: {written}")
    findings = run_findings(read_run(args.run))
    if args.similar is not None:
        from allencv.reporting.similar_images import add_similar_images, as_text

        device = "cpu" if args.cuda_device < 0 else f"cuda:{args.cuda_device}"
        options = args.similar, device, args.overrides, args.trust_archive
        print(as_text(add_similar_images(findings, args.run, *options)))
    page = as_html(findings)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page, errors="replace")
    print(f"report: {output}")
