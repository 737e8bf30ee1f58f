import argparse
import sys
from pathlib import Path

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError

from allencv.commands.shared_arguments import add_command, add_config, add_overrides


@Subcommand.register("sweep")
class Sweep(Subcommand):
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = add_command(
            parser,
            self.name,
            "Each run is one of 'allencv train', with its own folder. If you repeat the command, "
            "finished runs are skipped and interrupted runs resume. The exit status is 1 if a run "
            "has failed.",
        )
        add_config(subparser)
        subparser.add_argument(
            *("-s", "--serialization-dir"),
            required=True,
            type=str,
            help="the folder for the runs' folders, and for sweep.json with all results",
        )
        kinds = subparser.add_mutually_exclusive_group(required=True)
        kinds.add_argument("--seeds", type=int, help="the number of seeds (0, 1, ...)")
        kinds.add_argument(
            "--folds",
            type=int,
            help="the number of folds of the training data; each run validates on one fold and "
            "trains on the others",
        )
        add_overrides(subparser, "-o")
        subparser.set_defaults(func=_sweep)
        return subparser


def _sweep(args: argparse.Namespace) -> None:
    from allennlp.common.util import import_module_and_submodules

    from allencv.catalogue import read_config
    from allencv.experiments.sweep import sweep
    from allencv.models.from_archive import with_archived_model
    from allencv.training.run_folder import locked

    for package in args.include_package:  # the config may name their parts
        import_module_and_submodules(package)
    kind, count = ("seed", args.seeds) if args.folds is None else ("fold", args.folds)
    least = 1 if kind == "seed" else 2
    if count < least:
        raise ConfigurationError(f"--{kind}s is {count}; expected at least {least}")
    with locked(args.serialization_dir):
        params = with_archived_model(read_config(args.param_path, args.overrides))
        folder = Path(args.serialization_dir)
        runs = sweep(params.as_dict(quiet=True), folder, kind, count, args.include_package)
    failed = [run for run in runs if "error" in run]
    for run in failed:
        print(f"{run['run']} has failed: {run['error']}")
    print(f"everything: {folder / 'sweep.json'}")
    if failed:
        sys.exit(1)
