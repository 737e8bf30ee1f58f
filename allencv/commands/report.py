import argparse
from pathlib import Path

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from allencv.commands.shared_arguments import add_command, add_overrides
from allencv.runtime.model_arguments import add_trust_archive


@Subcommand.register("report")
class Report(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = add_command(
            parser,
            self.name,
            "The page is a single HTML file. It is made from the files in the run's folder, "
            "without the images.",
        )
        subparser.add_argument("run", type=str, help="the folder of a run (--serialization-dir)")
        subparser.add_argument(
            *("-o", "--output"),
            type=str,
            help="the file to write (default = report.html in the folder of the run)",
        )
        subparser.add_argument(
            "--evaluate",
            nargs="?",
            const="validation",
            choices=("validation", "test"),
            help="first compute and write the model's predictions for these images of the config, "
            "as training does at its end (without a value: validation)",
        )
        subparser.add_argument(
            "--pictures",
            type=int,
            default=12,
            help="with --evaluate: the number of pictures of each kind (default = %(default)s)",
        )
        subparser.add_argument(
            "--cuda-device",
            type=int,
            default=-1,
            help="with --evaluate: the number of the GPU, or -1 for the CPU (the default)",
        )
        when = "with --evaluate: "
        add_overrides(subparser, when=when, such_as=", such as new paths of the images")
        add_trust_archive(subparser, when=when)
        subparser.set_defaults(func=_report)
        return subparser


def _report(args: argparse.Namespace) -> None:
    from allencv.commands.shared_arguments import check_cuda_device
    from allencv.reporting.evaluate_run import evaluate_run
    from allencv.reporting.findings import run_findings
    from allencv.reporting.run_folder import read_run
    from allencv.reporting.run_html import as_html
    from allencv.runtime.whole_files import write_text

    output = Path(args.output or Path(args.run) / "report.html")
    if output.is_dir():
        raise ConfigurationError(f"--output '{output}' is a folder; expected the name of a file")
    if args.pictures < 0:
        raise ConfigurationError(f"--pictures is {args.pictures}; expected at least 0")
    if args.evaluate is not None:
        check_cuda_device(args.cuda_device)
        written = evaluate_run(
            args.run,
            args.evaluate,
            args.pictures,
            args.cuda_device,
            args.overrides,
            args.trust_archive,
        )
        print(f"predictions: {written}")
    page = as_html(run_findings(read_run(args.run)))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page, errors="replace")
    print(f"report: {output}")
